package sockets

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/netnstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	vip4  = netip.MustParseAddr("203.0.113.10")
	other = netip.MustParseAddr("203.0.113.11")
	vip6  = netip.MustParseAddr("2001:db8:0:25::10")
)

// host gives a namespace that has the VIPs and another address, on lo.
func host(t testing.TB) *netnstest.NS {
	t.Helper()
	ns := netnstest.New(t)
	lo, err := ns.Link.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{vip4, other, vip6} {
		n := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
		if err := ns.Link.AddrAdd(lo, &netlink.Addr{IPNet: n, Flags: unix.IFA_F_NODAD}); err != nil {
			t.Fatal(err)
		}
	}
	return ns
}

// listen opens a socket of plain TCP in a namespace; a backlog of 0 is the default.
func listen(t testing.TB, ns *netnstest.NS, network, addr string, backlog int) net.Listener {
	t.Helper()
	var cfg net.ListenConfig
	cfg.SetMultipathTCP(false)
	var ln net.Listener
	ns.Do(func() (err error) {
		ln, err = cfg.Listen(context.Background(), network, addr)
		return err
	})
	t.Cleanup(func() { ln.Close() })
	if backlog > 0 { // a second listen changes it
		raw, err := ln.(*net.TCPListener).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), backlog) })
		if err != nil {
			t.Fatal(err)
		}
	}
	return ln
}

// dial connects from an address that is no VIP.
func dial(t testing.TB, ns *netnstest.NS, network, addr string) net.Conn {
	t.Helper()
	from := netip.MustParseAddr("127.0.0.1")
	if netip.MustParseAddrPort(addr).Addr().Is6() {
		from = netip.IPv6Loopback()
	}
	dialer := net.Dialer{Timeout: 10 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	if strings.HasPrefix(network, "udp") {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	var conn net.Conn
	ns.Do(func() (err error) {
		conn, err = dialer.Dial(network, addr)
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

// eventually polls a condition that the kernel brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

func (r *Reader) countIn(t *testing.T, ns *netnstest.NS) map[string]int {
	t.Helper()
	counts := map[string]int{}
	ns.Do(func() error {
		n, err := r.Count()
		for e, flows := range n {
			counts[fmt.Sprintf("%d %v", e.Protocol, e.VIP)] = flows
		}
		return err
	})
	return counts
}

// many is a list of VIPs that is too long for the kernel's filter.
func many() []netip.Addr {
	list := []netip.Addr{vip4, vip6}
	for a := netip.MustParseAddr("192.0.2.0"); len(list) <= maxFiltered; a = a.Next() {
		list = append(list, a)
	}
	return list
}

func TestFlowsAreCountedExactly(t *testing.T) {
	ns := host(t)
	for addr, network := range map[string]string{
		"203.0.113.10:25": "tcp4", "[2001:db8:0:25::10]:25": "tcp6", ":143": "tcp", "203.0.113.11:25": "tcp4",
	} {
		listen(t, ns, network, addr, 4096) // a connection that waits to be accepted is a flow, too
	}
	for i := range 30 {
		dial(t, ns, "tcp", "203.0.113.10:25")
		dial(t, ns, "tcp", "203.0.113.10:143") // an IPv6 socket takes it
		dial(t, ns, "tcp", "[2001:db8:0:25::10]:25")
		dial(t, ns, "tcp", "203.0.113.11:25") // none of ours
		if i < 20 {
			dial(t, ns, "tcp", "[2001:db8:0:25::10]:143")
		}
	}
	want := map[string]int{
		"6 203.0.113.10:25": 30, "6 203.0.113.10:143": 30, "6 [2001:db8:0:25::10]:25": 30, "6 [2001:db8:0:25::10]:143": 20,
	}
	for name, vips := range map[string][]netip.Addr{
		"one family each": {vip4, vip6}, "beside others": {netip.MustParseAddr("192.0.2.1"), vip6, vip4}, "unfiltered": many(),
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(want, New(vips).countIn(t, ns)); diff != "" {
				t.Errorf("flows (-want +got):\n%s", diff)
			}
		})
	}
	delete(want, "6 [2001:db8:0:25::10]:143")
	delete(want, "6 [2001:db8:0:25::10]:25")
	if diff := cmp.Diff(want, New([]netip.Addr{vip4}).countIn(t, ns)); diff != "" {
		t.Errorf("flows of one VIP (-want +got):\n%s", diff)
	}
}

// TestFlowEndsWithTheServersPart closes one side after the other.
func TestFlowEndsWithTheServersPart(t *testing.T) {
	ns := host(t)
	ln := listen(t, ns, "tcp4", "203.0.113.10:25", 0)
	r := New([]netip.Addr{vip4})
	flows := func() int { return r.countIn(t, ns)["6 203.0.113.10:25"] }

	clientFirst := dial(t, ns, "tcp4", "203.0.113.10:25")
	served, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	clientFirst.Close()
	if n := flows(); n != 1 {
		t.Errorf("%d flows while the server has more to say", n)
	}
	served.Close()
	eventually(t, "no flow once both sides are closed", func() bool { return flows() == 0 })

	serverFirst := dial(t, ns, "tcp4", "203.0.113.10:25")
	if served, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	served.(*net.TCPConn).CloseWrite()
	if n := flows(); n != 1 {
		t.Errorf("%d flows while the server listens to the rest", n)
	}
	served.Close()
	eventually(t, "no flow once the server is through, though the client is not", func() bool { return flows() == 0 })
	serverFirst.Close()
}

func TestUDPFlows(t *testing.T) {
	ns := host(t)
	dial(t, ns, "udp4", "203.0.113.10:53") // the far end has the VIP
	var conn *net.UDPConn
	ns.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip4, 53)), &net.UDPAddr{IP: other.AsSlice(), Port: 4242})
		return err
	})
	defer conn.Close()
	want := map[string]int{"17 203.0.113.10:53": 1}
	if diff := cmp.Diff(want, New([]netip.Addr{vip4}).countIn(t, ns)); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
}

func (r *Reader) listenersIn(t *testing.T, ns *netnstest.NS) []Listener {
	t.Helper()
	var list []Listener
	ns.Do(func() (err error) {
		list, err = r.Listeners()
		return err
	})
	return list
}

func TestListeners(t *testing.T) {
	ns := host(t)
	listen(t, ns, "tcp4", "203.0.113.10:25", 7)
	listen(t, ns, "tcp4", "203.0.113.11:26", 7) // none of ours
	listen(t, ns, "tcp6", "[2001:db8:0:25::10]:27", 7)
	listen(t, ns, "tcp4", ":28", 7)
	listen(t, ns, "tcp6", ":29", 7)
	listen(t, ns, "tcp", ":30", 7)
	ns.Do(func() error {
		c, err := net.ListenPacket("udp", ":53")
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err
	})
	dial(t, ns, "udp", "203.0.113.10:53") // a client

	type row struct {
		proto      uint8
		local      string
		four, six  bool
		queue, max uint32
	}
	var got []row
	for _, l := range New([]netip.Addr{vip4, vip6}).listenersIn(t, ns) {
		got = append(got, row{l.Protocol, l.Local.String(), l.Covers(vip4), l.Covers(vip6), l.Queue, l.Backlog})
		if l.Cookie == 0 || l.Full() || l.Drops != 0 {
			t.Errorf("listener %+v", l)
		}
	}
	want := []row{
		{6, "203.0.113.10:25", true, false, 0, 7}, {6, "[2001:db8:0:25::10]:27", false, true, 0, 7},
		{6, "0.0.0.0:28", true, false, 0, 7}, {6, "[::]:29", false, true, 0, 7}, {6, "[::]:30", true, true, 0, 7},
		{17, "[::]:53", true, true, 0, 0},
	}
	sorted := cmpopts.SortSlices(func(a, b row) bool { return a.local < b.local })
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{}), sorted); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
}

// TestQueueOverflows has nobody accept.
func TestQueueOverflows(t *testing.T) {
	ns := host(t)
	listen(t, ns, "tcp4", "203.0.113.10:25", 1)
	r := New([]netip.Addr{vip4})
	for range 2 { // the backlog and one more
		dial(t, ns, "tcp4", "203.0.113.10:25")
	}
	eventually(t, "a full queue", func() bool { return r.listenersIn(t, ns)[0].Full() })
	if l := r.listenersIn(t, ns)[0]; l.Drops != 0 || l.Queue != 2 {
		t.Errorf("before any was dropped: %+v", l)
	}
	eventually(t, "a dropped connection", func() bool {
		// again and again, since on a busy machine the time may be over before anything is sent
		ns.Do(func() error {
			if _, err := net.DialTimeout("tcp4", "203.0.113.10:25", 20*time.Millisecond); err == nil {
				t.Error("a third connection was taken")
			}
			return nil
		})
		return r.listenersIn(t, ns)[0].Drops > 0
	})
}

func TestLocalFilter(t *testing.T) {
	// by hand from the kernel's description: two comparisons with a jump between them
	want := strings.Join([]string{
		"07101400", "02200000", "ffffffff", "cb00710a", // IPv4: on by 16, else by 20
		"01042000",                                                             // to the end: 4 + 28
		"071c2000", "0a800000", "ffffffff", "20010db8000000250000000000000010", // IPv6: on by 28, else by 32: past the end
	}, "")
	if got := fmt.Sprintf("%x", localFilter([]netip.Addr{vip4, vip6})); got != want {
		t.Errorf("filter\n%s, want\n%s", got, want)
	}
}

// FuzzParse looks for panics.
func FuzzParse(f *testing.F) {
	msg := make([]byte, unix.NLMSG_HDRLEN+answerSize+8)
	msg[0], msg[4] = byte(len(msg)), sockDiagByFamily
	msg[unix.NLMSG_HDRLEN] = unix.AF_INET
	msg[unix.NLMSG_HDRLEN+answerSize], msg[unix.NLMSG_HDRLEN+answerSize+2] = 5, attrOnlyIPv6
	f.Add(msg)
	done := make([]byte, unix.NLMSG_HDRLEN+4)
	done[0], done[4] = byte(len(done)), unix.NLMSG_DONE
	f.Add(append(msg, done...))
	f.Fuzz(func(t *testing.T, b []byte) {
		parse(b, func(s socket) error {
			if !s.local.IsValid() || s.local.Addr().Is4In6() {
				t.Errorf("%x holds the address %v", b, s.local)
			}
			return nil
		})
	})
}
