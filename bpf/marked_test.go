package bpf

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/netnstest"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const dialTime = 10 * time.Second

// pair is an LB and a real on one network, both with addresses of both families, and VIPs of both on the real.
type pair struct {
	lb, real *netnstest.NS
	b        *LB
	marked   *Marked
	hop      Real // the way to the real, without addresses
}

var (
	lb6    = netip.MustParseAddr("2001:db8::1")
	real4  = netip.MustParseAddr("198.51.100.2")
	real6  = netip.MustParseAddr("2001:db8::2")
	vip6   = netip.MustParseAddr("2001:db8:25::25")
	pairIP = netip.MustParsePrefix("198.51.100.1/24")
)

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{lb: netnstest.New(t), real: netnstest.New(t)}
	netnstest.Veth(t, p.lb, "eth1", pairIP, p.real, "eth1", netip.MustParsePrefix("198.51.100.2/24"))
	addAddr(t, p.lb, "eth1", "2001:db8::1/64")
	addAddr(t, p.real, "eth1", "2001:db8::2/64")
	addAddr(t, p.real, "lo", "203.0.113.10/32")
	addAddr(t, p.real, "lo", "2001:db8:25::25/128")
	ours, err := p.lb.Link.LinkByName("eth1")
	put(t, err)
	theirs, err := p.real.Link.LinkByName("eth1")
	put(t, err)
	for _, dst := range []string{"203.0.113.10/32", "2001:db8:25::25/128"} {
		_, n, err := net.ParseCIDR(dst)
		put(t, err)
		put(t, p.lb.Link.RouteAdd(&netlink.Route{LinkIndex: ours.Attrs().Index, Dst: n, Scope: unix.RT_SCOPE_LINK}))
		// the next hop's MAC address never matters: the program writes its own
		put(t, p.lb.Link.NeighSet(&netlink.Neigh{LinkIndex: ours.Attrs().Index, IP: n.IP, State: netlink.NUD_PERMANENT,
			HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}))
	}
	p.hop = Real{Ifindex: uint32(ours.Attrs().Index), Mtu: 1500, Flags: RealRedirect,
		DstMac: [6]byte(theirs.Attrs().HardwareAddr), SrcMac: [6]byte(ours.Attrs().HardwareAddr)}
	p.load(t)
	return p
}

func addAddr(t *testing.T, ns *netnstest.NS, name, addr string) {
	t.Helper()
	l, err := ns.Link.LinkByName(name)
	put(t, err)
	a, err := netlink.ParseAddr(addr)
	put(t, err)
	a.Flags = unix.IFA_F_NODAD
	put(t, ns.Link.AddrAdd(l, a))
}

// load puts the programs where they belong.
func (p *pair) load(t *testing.T) {
	t.Helper()
	lbDir, realDir := pinDir(t), pinDir(t)
	p.lb.Do(func() (err error) {
		if p.b, err = LoadLB(lbDir, hashKey); err != nil {
			return err
		}
		if _, err = p.b.Attach([]string{"eth1"}); err != nil {
			return err
		}
		if p.marked, err = p.b.LoadMarked(); err != nil {
			return err
		}
		return p.marked.Attach([]int{int(p.hop.Ifindex)})
	})
	t.Cleanup(func() { p.lb.Do(func() error { return p.marked.Close() }); put(t, p.b.Close()) })
	p.real.Do(func() error {
		host, err := LoadReal(realDir)
		if err != nil {
			return err
		}
		t.Cleanup(func() { host.Close() })
		if err := host.SetAddresses([]netip.Addr{real4, real6}, []netip.Addr{vipTCP.Addr(), vip6}); err != nil {
			return err
		}
		_, err = host.Attach([]string{"eth1"})
		return err
	})
}

// set writes real 1.
func (p *pair) set(t *testing.T, kind uint8, ipv6 bool) {
	t.Helper()
	r := p.hop
	r.Kind = kind
	source, addr := pairIP.Addr(), real4
	if ipv6 {
		source, addr = lb6, real6
		r.Flags |= RealIPv6
	}
	r.Source, r.Addr, r.Sum = Addr(source), Addr(addr), OuterSum(source, addr)
	put(t, p.b.Reals.Put(uint32(1), r))
}

// dial connects to a VIP with the mark of a real.
func (p *pair) dial(ctx context.Context, to netip.Addr, mark uint32) error {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)) }); e != nil {
			return e
		}
		return err
	}}
	var conn net.Conn
	var err error
	p.lb.Do(func() error {
		conn, err = d.DialContext(ctx, "tcp", netip.AddrPortFrom(to, 25).String())
		return nil
	})
	if err == nil {
		conn.Close()
	}
	return err
}

// TestMarked connects through every kind of encapsulation, with a listener that is reached in no other way.
func TestMarked(t *testing.T) {
	p := newPair(t)
	for _, addr := range []string{"203.0.113.10:25", "[2001:db8:25::25]:25"} {
		p.real.Do(func() error {
			ln, err := net.Listen("tcp", addr)
			if err == nil {
				t.Cleanup(func() { ln.Close() })
			}
			return err
		})
	}
	for _, kind := range []uint8{KindIPIP, KindGUE, KindL2} {
		for _, ipv6 := range []bool{false, true} {
			for _, to := range []netip.Addr{vipTCP.Addr(), vip6} {
				t.Run(fmt.Sprintf("kind %d, real ipv6 %v, vip %v", kind, ipv6, to), func(t *testing.T) {
					p.set(t, kind, ipv6)
					ctx, cancel := context.WithTimeout(t.Context(), dialTime)
					defer cancel()
					if err := p.dial(ctx, to, Mark(1)); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
	drops := nonZero(t, &p.b.program)
	if len(drops) != 0 {
		t.Errorf("dropped %v", drops)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if p.dial(short, vipTCP.Addr(), Mark(2)) == nil {
		t.Error("a mark of no real leads somewhere")
	}
	if drops := nonZero(t, &p.b.program); drops["no_next_hop"] == 0 {
		t.Errorf("dropped %v, want some for no_next_hop", drops)
	}
}
