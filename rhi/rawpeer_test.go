package rhi

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"anycastle/internal/netnstest"
)

// Message types of RFC 4271 4.1, and one that nobody has defined.
const (
	typeOpen      = 1
	typeUpdate    = 2
	typeNotice    = 3
	typeKeepalive = 4
	typeUnknown   = 9
)

// rawPeer is AS 65099 at the other end of a session, one byte at a time.
type rawPeer struct {
	net.Conn
	updates   atomic.Int32
	withdraws atomic.Int32  // updates that withdraw something
	notice    atomic.Value  // body of the first NOTIFICATION, as a string
	closed    chan struct{} // closed when the far end has ended the session
}

func message(kind byte, body []byte) []byte {
	b := bytes.Repeat([]byte{0xff}, 16)
	b = binary.BigEndian.AppendUint16(b, uint16(19+len(body)))
	return append(append(b, kind), body...)
}

// routerAddr is where the raw peers find the router.
const routerAddr = "192.0.2.1:179"

// dial connects from an address of the node; ttl is that of every packet.
func dial(n *node, from string, ttl int) (conn net.Conn, err error) {
	d := net.Dialer{
		Timeout:   2 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)},
		Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TTL, ttl) })
		},
	}
	n.ns.Do(func() error {
		conn, err = d.DialContext(n.t.Context(), "tcp4", routerAddr) // one address: dialled on this thread
		return nil
	})
	return conn, err
}

// open is handshake for a session that ends with the test at the latest.
func open(n *node, from string, ttl int, within time.Duration) (*rawPeer, error) {
	p, err := handshake(n, from, ttl, 90, within)
	if err == nil {
		n.t.Cleanup(func() { p.Close(); <-p.closed })
	}
	return p, err
}

// handshake takes a session to Established within the given time. It waits for the far end's OPEN before it says a word:
// gobgp sets the least TTL only after it has accepted a connection, and before it sends its OPEN.
func handshake(n *node, from string, ttl int, holdTime uint16, within time.Duration) (p *rawPeer, err error) {
	conn, err := dial(n, from, ttl)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	conn.SetDeadline(time.Now().Add(within))
	p = &rawPeer{Conn: conn, closed: make(chan struct{})}
	// version 4, AS 65099, the hold time, identifier 198.51.100.99; one capability: IPv4 unicast
	ours, _ := hex.DecodeString("04" + "fe4b" + fmt.Sprintf("%04x", holdTime) + "c6336463" + "08" + "0206" + "0104" + "00010001")
	for _, step := range []struct {
		hear byte
		say  []byte
	}{{typeOpen, append(message(typeOpen, ours), message(typeKeepalive, nil)...)}, {typeKeepalive, nil}} {
		if kind, _, err := p.read(); err != nil || kind != step.hear {
			return nil, fmt.Errorf("heard message type %d, want %d: %w", kind, step.hear, cmp.Or(err, io.ErrUnexpectedEOF))
		}
		if _, err := conn.Write(step.say); err != nil {
			return nil, err
		}
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	go func() { // ends when either side closes
		defer close(p.closed)
		for {
			kind, body, err := p.read()
			if err != nil {
				return
			}
			if kind == typeNotice {
				p.notice.CompareAndSwap(nil, string(body))
			}
			if kind != typeUpdate {
				continue
			}
			p.updates.Add(1)
			if len(body) < 2 || binary.BigEndian.Uint16(body) > 0 { // RFC 4271 4.3: the length of the withdrawn routes
				p.withdraws.Add(1)
			}
		}
	}()
	return p, nil
}

// keepAlive keeps the session from its hold time, for a test that may take longer on a busy machine.
func (p *rawPeer) keepAlive(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-p.closed:
				return
			case <-tick.C:
				if _, err := p.Write(message(typeKeepalive, nil)); err != nil {
					return
				}
			}
		}
	}()
	t.Cleanup(func() { p.Close(); <-done })
}

func (p *rawPeer) read() (kind byte, body []byte, err error) {
	head := make([]byte, 19)
	if _, err := io.ReadFull(p, head); err != nil {
		return 0, nil, err
	}
	body = make([]byte, max(19, binary.BigEndian.Uint16(head[16:18]))-19)
	_, err = io.ReadFull(p, body)
	return head[18], body, err
}

// rawAddr is the address of the i-th raw peer, which all live in one namespace.
func rawAddr(i int) string { return fmt.Sprintf("192.0.2.%d", 10+i) }

// withRawPeers is a router with the namespace of a number of raw peers on the link 192.0.2.0/25, and with a well-behaved
// balancer that announces the VIP.
func withRawPeers(t *testing.T, number int) (router, raw *node) {
	t.Helper()
	router, raw = newNode(t, "router"), newNode(t, "raw")
	good := newNode(t, "good")
	link(t, router, good, 64)
	netnstest.Veth(t, router.ns, "eth1", netip.MustParsePrefix("192.0.2.1/25"), raw.ns, "eth1", netip.MustParsePrefix("192.0.2.2/25"))
	eth, err := raw.ns.Link.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	text := `
rhi:
  asn: 65001
  router_id: 198.51.100.1
  hold: 3s
  announce: [198.51.100.0/25]
  router: {settle: 0s}
  groups: {default: {ladder: [{med: 100}, {prepend: 3}, {gshut: true}]}}
  neighbors:
    - {name: good, address: 192.0.2.129, asn: 65011, passive: true}
`
	for i := range number {
		addr, err := netlink.ParseAddr(rawAddr(i) + "/25")
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.ns.Link.AddrAdd(eth, addr); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("    - {name: raw%d, address: %s, asn: 65099, passive: true}\n", i, rawAddr(i))
	}
	router.start(text)
	good.start(balancer(2, "192.0.2.128"))
	good.set(vip)
	eventually(t, "good peer's route", soon, func() bool { return router.kernel(vip) == "192.0.2.129" })
	return router, raw
}

func (n *node) mustOpen(from string) *rawPeer {
	n.t.Helper()
	p, err := open(n, from, 255, soon)
	if err != nil {
		n.t.Fatalf("open a session from %s: %v", from, err)
	}
	return p
}

func TestSameSetSendsNothing(t *testing.T) {
	t.Parallel()
	router, raw := withRawPeers(t, 1)
	p := raw.mustOpen(rawAddr(0))
	p.keepAlive(t)
	updates := func(want int32) {
		t.Helper()
		eventually(t, "updates", soon, func() bool { return p.updates.Load() >= want })
		if got := p.updates.Load(); got != want {
			t.Fatalf("got %d updates, want %d", got, want)
		}
	}
	updates(2) // the own route, and once more as the session has begun
	for range 20 {
		router.set("203.0.113.20/32")
	}
	updates(3)
	time.Sleep(2 * together) // what changes again earlier is told again
	for range 20 {
		router.set()
	}
	updates(4)
	router.set("203.0.113.21/32")
	updates(5) // had any of the calls sent one more, it would have come before this one
	if r, ok := router.route("198.51.100.0/25"); !ok || r.Source != Own {
		t.Errorf("own route after an empty set: %+v", r)
	}
}

// A prefix that goes from rung to rung is replaced at the peer: what is sent withdraws nothing before the last rung.
func TestRungChangesWithdrawNothing(t *testing.T) {
	t.Parallel()
	router, raw := withRawPeers(t, 1)
	p := raw.mustOpen(rawAddr(0))
	p.keepAlive(t)
	eventually(t, "the own route", soon, func() bool { return p.updates.Load() == 1 })
	const changes = 200
	for i := range changes {
		before := p.updates.Load()
		router.set(fmt.Sprintf("203.0.113.20/32@default=%d", i%4))
		eventually(t, "an update", soon, func() bool { return p.updates.Load() > before })
	}
	if n := p.withdraws.Load(); n > 0 {
		t.Errorf("%d of %d changes withdrew it", n, changes)
	}
	router.set("203.0.113.20/32@default=4")
	eventually(t, "withdrawn", soon, func() bool { return p.withdraws.Load() == 1 })
}

// A peer is sent all once more when its session has begun: what came first may have been the newer.
func TestSentOnceMore(t *testing.T) {
	t.Parallel()
	_, raw := withRawPeers(t, 1)
	p := raw.mustOpen(rawAddr(0))
	p.keepAlive(t)
	eventually(t, "the own route, twice", soon, func() bool { return p.updates.Load() == 2 })
	if n := p.withdraws.Load(); n > 0 {
		t.Errorf("%d withdrawals", n)
	}
}

// A peer that dials from further away than the next hop has a TTL below 255 (RFC 5082). It does not keep the true peer
// out for long.
func TestFarPeerIsNotHeard(t *testing.T) {
	t.Parallel()
	router, raw := withRawPeers(t, 1)
	if _, err := open(raw, rawAddr(0), 254, time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with TTL 254: %v, want no answer to the OPEN", err)
	}
	eventually(t, "session of the near peer", soon, func() bool {
		_, err := open(raw, rawAddr(0), 255, time.Second)
		return err == nil
	})
	eventually(t, "session at the router", soon, func() bool { return router.up("raw0") })
}

// A peer that asks for hold time 0 is cut off and kept down, as its silent death would never be noticed.
func TestPeerWithoutHoldTime(t *testing.T) {
	t.Parallel()
	router, raw := withRawPeers(t, 2)
	p, err := handshake(raw, rawAddr(0), 255, 0, soon)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	select {
	case <-p.closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the session goes on")
	}
	eventually(t, "reason shown", soon, func() bool {
		shown := router.peer("raw0")
		return shown.State == "idle" && strings.Contains(shown.LastError, "hold time 0")
	})
	if _, err := open(raw, rawAddr(0), 255, 4*time.Second); err == nil {
		t.Error("it is let in again at once")
	}
	raw.mustOpen(rawAddr(1)) // a hold time of 90 seconds
	eventually(t, "session of another peer", soon, func() bool { return router.up("raw1") })
	if shown := router.peer("raw0"); shown.State != "idle" || !strings.Contains(shown.LastError, "hold time 0") {
		t.Errorf("show peer: %+v", shown)
	}
}
