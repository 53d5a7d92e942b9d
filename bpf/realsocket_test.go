package bpf

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/pkttest"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// flowEnds are the two ends of the flow of the valid packets.
type flowEnds struct {
	name        string
	client, vip netip.AddrPort
	seg         made // of the client
	back        made // of the server
}

var bothFlows = []flowEnds{
	{"v4", client, vipTCP, tcp, response},
	{"v6", client6, vipTCP6, tcp6, response6},
}

// listen has a socket of the host listen.
func (r *realRig) listen(t *testing.T, addr string, control func(fd int) error) net.Listener {
	t.Helper()
	var ln net.Listener
	r.ns.Do(func() (err error) {
		config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return onFD(c, control) }}
		ln, err = config.Listen(t.Context(), "tcp", addr)
		return err
	})
	t.Cleanup(func() { ln.Close() })
	return ln
}

// onFD calls f, if there is one, with a connection's descriptor.
func onFD(c syscall.RawConn, f func(fd int) error) error {
	if f == nil {
		return nil
	}
	var err error
	if e := c.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// dial connects the client to the VIP.
func (r *realRig) dial(t *testing.T, f flowEnds) *net.TCPConn {
	t.Helper()
	var conn net.Conn
	r.ns.Do(func() (err error) {
		dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(f.client), Timeout: dialTime}
		conn, err = dialer.DialContext(t.Context(), "tcp", f.vip.String())
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func accept(t *testing.T, ln net.Listener) *net.TCPConn {
	t.Helper()
	put(t, ln.(*net.TCPListener).SetDeadline(time.Now().Add(dialTime)))
	conn, err := ln.Accept()
	put(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// The states of the kernel's list of sockets.
const (
	stateEstablished = "01"
	stateSynReceived = "03"
	stateTimeWait    = "06"
)

// awaitState waits until the host's end of a flow is in a state.
func (r *realRig) awaitState(t *testing.T, f flowEnds, state string) {
	t.Helper()
	eventually(t, "the flow's socket is in state "+state, func() bool { return slices.Equal(r.states(t, f), []string{state}) })
}

// states gives the state of every socket that is the host's end of a flow: whose local port is the VIP's, and whose remote
// port the client's.
func (r *realRig) states(t *testing.T, f flowEnds) (states []string) {
	t.Helper()
	local, remote := fmt.Sprintf(":%04X", f.vip.Port()), fmt.Sprintf(":%04X", f.client.Port())
	r.ns.Do(func() error {
		for _, name := range []string{"tcp", "tcp6"} {
			file, err := os.Open("/proc/thread-self/net/" + name)
			if err != nil {
				return err
			}
			defer file.Close()
			lines := bufio.NewScanner(file)
			for lines.Scan() {
				fields := strings.Fields(lines.Text())
				if len(fields) > 3 && strings.HasSuffix(fields[1], local) && strings.HasSuffix(fields[2], remote) {
					states = append(states, fields[3])
				}
			}
			if err := lines.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	return states
}

// hasFlow has every packet of a flow that a socket knows be taken, and none of the flow beside it.
func (r *realRig) hasFlow(t *testing.T, f flowEnds) {
	t.Helper()
	r.takes(t, "segment", f.seg)
	r.takes(t, "rst", with(f.seg, flags(func(tcp *layers.TCP) { tcp.RST = true })))
	r.takes(t, "error", about(t, f.back))
	r.takes(t, "behind tags", with(f.seg, vlans(twoTags...)))
	cut := cutFlows()[0]
	if f.client.Addr().Is6() {
		cut = cutFlows()[2]
		r.takes(t, "behind headers", with(f.seg, headers(nHeaders(8)...)))
	} else {
		r.takes(t, "behind options", with(f.seg, someOptions))
	}
	r.takes(t, "first fragment", cut.piece(t, 0), cut.decided(1))
	otherPort := func(f *pkttest.Frame) { f.L4.(*layers.TCP).SrcPort++ }
	r.passesOn(t, "another port", with(f.seg, otherPort))
	r.passesOn(t, "error about another port", about(t, with(f.back, func(f *pkttest.Frame) { f.L4.(*layers.TCP).DstPort++ })))
	r.passesOn(t, "another client", with(f.seg, otherClient))
	r.takes(t, "error for another vip", with(about(t, f.back), toOtherVIP)) // the kernel, too, asks for the flow that it is about
	r.passesOn(t, "error about another vip", about(t, with(f.back, func(f *pkttest.Frame) {
		if f.IP.SrcIP = otherVIP4.AsSlice(); f.IP6 != nil {
			f.IP6.SrcIP = otherVIP6.AsSlice()
		}
	})))
	r.passesOn(t, "another vip", with(f.seg, toOtherVIP))
}

func toOtherVIP(f *pkttest.Frame) {
	if f.IP.DstIP = otherVIP4.AsSlice(); f.IP6 != nil {
		f.IP6.DstIP = otherVIP6.AsSlice()
	}
}

func otherClient(f *pkttest.Frame) {
	if f.IP6 != nil {
		f.IP6.SrcIP = netip.MustParseAddr("2001:db8::8").AsSlice()
	} else {
		f.IP.SrcIP = netip.MustParseAddr("192.0.2.8").AsSlice()
	}
}

// listeners are what a server may listen on for a flow.
func listeners(f flowEnds) map[string]string {
	return map[string]string{"vip": f.vip.String(), "any address": fmt.Sprintf(":%d", f.vip.Port())}
}

// eachListener runs a test on a host of its own for each family and each kind of listener.
func eachListener(t *testing.T, test func(t *testing.T, r *realRig, f flowEnds, listen string)) {
	for _, f := range bothFlows {
		for name, addr := range listeners(f) {
			t.Run(f.name+", "+name, func(t *testing.T) { test(t, newHopRig(t), f, addr) })
		}
	}
}

func TestHopEstablished(t *testing.T) {
	eachListener(t, func(t *testing.T, r *realRig, f flowEnds, listen string) {
		ln := r.listen(t, listen, nil)
		r.dial(t, f)
		accept(t, ln)
		r.awaitState(t, f, stateEstablished)
		r.hasFlow(t, f)
		put(t, ln.Close()) // the server is being stopped
		r.hasFlow(t, f)
	})
}

// TestHopTimeWait has the server close first.
func TestHopTimeWait(t *testing.T) {
	eachListener(t, func(t *testing.T, r *realRig, f flowEnds, listen string) {
		ln := r.listen(t, listen, nil)
		conn := r.dial(t, f)
		put(t, accept(t, ln).Close())
		put(t, conn.Close())
		r.awaitState(t, f, stateTimeWait)
		r.hasFlow(t, f)
	})
}

// TestHopRequest has the handshake not be over: the listener waits for data, until when there is no more than a request.
func TestHopRequest(t *testing.T) {
	eachListener(t, func(t *testing.T, r *realRig, f flowEnds, listen string) {
		r.listen(t, listen, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60) })
		r.dial(t, f)
		r.awaitState(t, f, stateSynReceived)
		r.hasFlow(t, f)
	})
}

// TestHopListener has the host listen and have no flow.
func TestHopListener(t *testing.T) {
	eachListener(t, func(t *testing.T, r *realRig, f flowEnds, listen string) {
		r.listen(t, listen, nil)
		r.takes(t, "syn", with(f.seg, opening))
		r.passesOn(t, "segment", f.seg)
		r.passesOn(t, "fin", with(f.seg, flags(func(tcp *layers.TCP) { tcp.FIN, tcp.ACK = true, true })))
		r.passesOn(t, "error", about(t, f.back))
	})
}

// TestHopCookie has the host answer SYNs by cookies: the ACK that brings one back opens the flow here, where no socket
// knows of it yet.
func TestHopCookie(t *testing.T) {
	eachListener(t, func(t *testing.T, r *realRig, f flowEnds, listen string) {
		r.ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_syncookies", []byte("2"), 0) })
		ln := r.listen(t, listen, nil)
		seq, ack := r.handshake(t, f, ln)
		cookie := with(f.seg, func(f *pkttest.Frame) { f.L4.(*layers.TCP).Seq, f.L4.(*layers.TCP).Ack = seq, ack })
		r.takes(t, "cookie", cookie)
		r.takes(t, "cookie with data in fragments", func() *pkttest.Frame {
			return with(cookie, payload(150))().Fragments(t, cutSize, fragmentID)[0]
		}, func(m *realMoved) {
			cut := cutFlows()[0]
			if f.client.Addr().Is6() {
				cut = cutFlows()[2]
			}
			cut.decided(1)(m)
		})
		r.passesOn(t, "another cookie", with(cookie, func(f *pkttest.Frame) { f.L4.(*layers.TCP).Ack += 1 << 20 }))
		r.passesOn(t, "cookie of another sequence", with(cookie, func(f *pkttest.Frame) { f.L4.(*layers.TCP).Seq += 1 << 20 }))
		r.passesOn(t, "cookie of another client", with(cookie, otherClient))
		r.passesOn(t, "cookie with a rst", with(cookie, func(f *pkttest.Frame) { f.L4.(*layers.TCP).RST = true }))
		r.passesOn(t, "error about it", about(t, f.back))
		put(t, ln.Close())
		r.passesOn(t, "cookie without a listener", cookie)
	})
}

// The queues of a socket under repair, in linux/tcp.h.
const (
	receiveQueue = 1
	sendQueue    = 2
)

// handshake opens a connection by a cookie, gives the numbers of the client's ACK, and has both ends forget it without a
// word to each other.
func (r *realRig) handshake(t *testing.T, f flowEnds, ln net.Listener) (seq, ack uint32) {
	t.Helper()
	conn := r.dial(t, f)
	server := accept(t, ln)
	raw, err := conn.SyscallConn()
	put(t, err)
	put(t, onFD(raw, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
			return err
		}
		for queue, number := range map[int]*uint32{sendQueue: &seq, receiveQueue: &ack} {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue); err != nil {
				return err
			}
			n, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
			if err != nil {
				return err
			}
			*number = uint32(n)
		}
		return nil
	}))
	put(t, conn.Close()) // under repair it goes without a FIN
	put(t, server.SetLinger(0))
	put(t, server.Close())
	if states := r.states(t, f); len(states) != 0 {
		t.Fatalf("sockets of the flow are left in states %v", states)
	}
	return seq, ack
}
