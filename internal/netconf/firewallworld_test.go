package netconf

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/firewall"
	"anycastle/internal/netnstest"
)

// routerNode is the router between four machines: a client outside, a balancer, a front end and a back end. Each has the
// odd address of a /31 whose even one is the router's, and 2001:db8:N::1 beside 2001:db8:N::.
const routerNode = `
net:
  forward: true
  interfaces:
    - {name: outside, addresses: [192.0.2.0/31]}
    - {name: lb, addresses: [192.0.2.2/31]}
    - {name: front, addresses: [192.0.2.4/31]}
    - {name: front2, addresses: [192.0.2.6/31]}
    - {name: back, addresses: [192.0.2.8/31]}
  firewall:
    zones: {outside: [outside], network: [lb], front: [front, front2], back: [back]}
    allow:
      - {from: [outside], to: [front, network], to_prefixes: [192.0.2.4/31, "2001:db8:3::/64"], proto: tcp, ports: [25, 1000-1003, 1002-1999]}
      - {from: [outside], to: [front], proto: udp, ports: [53]}
      - {from: [network], to: [front], from_prefixes: [192.0.2.3/32, 192.0.2.2/32], proto: ipip}
      - {from: [network], to: [front], proto: gue}
      - {from: [front], to: [back], proto: tcp, ports: [2424]}
      - {from: [network], to: [back, front], proto: icmp}
      - {from: [back], to: [network], to_prefixes: ["2001:db8::/32"], proto: any}
      - {from: [back], to: [back], proto: any}
`

// world is the router with its machines, by the router's interface.
type world struct {
	t      *testing.T
	router *netnstest.NS
	nodes  map[string]*netnstest.NS
	v4, v6 map[string]netip.Addr
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cfg, err := decode(routerNode)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t, netnstest.New(t), map[string]*netnstest.NS{}, map[string]netip.Addr{}, map[string]netip.Addr{}}
	for i, ifc := range cfg.Interfaces {
		ns := netnstest.New(t)
		own := ifc.Addresses[0].Addr().Next()
		netnstest.Veth(t, w.router, ifc.Name, netip.Prefix{}, ns, "eth1", netip.PrefixFrom(own, 31))
		w.nodes[ifc.Name], w.v4[ifc.Name] = ns, own
		w.v6[ifc.Name] = netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::1", i+1))
		w.addIPv6(ns, "eth1", w.v6[ifc.Name])
		w.addIPv6(w.router, ifc.Name, w.v6[ifc.Name].Prev())
		w.addRoute(ns, netip.IPv4Unspecified(), own.Prev())
		w.addRoute(ns, netip.IPv6Unspecified(), w.v6[ifc.Name].Prev())
	}
	w.router.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0) })
	for range 2 {
		w.router.Do(func() error { return Apply(t.Context(), cfg, slog.New(slog.DiscardHandler)) })
	}
	return w
}

func (w *world) addIPv6(ns *netnstest.NS, name string, a netip.Addr) {
	w.t.Helper()
	link, err := ns.Link.LinkByName(name)
	if err == nil {
		err = ns.Link.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 64)), Flags: unix.IFA_F_NODAD})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) addRoute(ns *netnstest.NS, to, via netip.Addr) {
	w.t.Helper()
	if err := ns.Link.RouteAdd(&netlink.Route{Dst: ipNet(netip.PrefixFrom(to, 0)), Gw: via.AsSlice()}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) status() *firewall.Status {
	w.t.Helper()
	var s *firewall.Status
	w.router.Do(func() (err error) {
		s, err = firewall.Read()
		return err
	})
	return s
}

// dropped counts what the router has dropped, by its zones.
func (w *world) dropped() map[string]bool {
	seen := map[string]bool{}
	for _, d := range w.status().Drops {
		if d.Dropped.Packets > 0 && d.Dropped.Bytes > 0 {
			seen[d.From+" "+d.To] = true
		}
	}
	return seen
}

// patience bounds what must come; what must not come is waited for shortly, and its drop is looked for besides.
const (
	patience   = 10 * time.Second
	impatience = 300 * time.Millisecond
)

// connect opens a connection from one machine to another, from a port unless that is 0.
func (w *world) connect(from, to string, v6 bool, sport, port uint16, timeout time.Duration) error {
	addrs := w.v4
	if v6 {
		addrs = w.v6
	}
	target := netip.AddrPortFrom(addrs[to], port)
	var err error
	w.nodes[to].Do(func() error {
		ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(target))
		if err == nil {
			w.t.Cleanup(func() { ln.Close() })
		}
		if errors.Is(err, unix.EADDRINUSE) {
			return nil
		}
		return err
	})
	w.nodes[from].Do(func() error {
		d := net.Dialer{Timeout: timeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addrs[from], sport))}
		c, dialErr := d.DialContext(w.t.Context(), "tcp", target.String())
		if err = dialErr; err == nil {
			c.Close()
		}
		return nil
	})
	return err
}
