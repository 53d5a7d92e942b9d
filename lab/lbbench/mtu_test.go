package lbbench

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"anycastle/internal/netnstest"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addIPv6 gives each link 2001:db8:0:N::/64 beside its IPv4 network, the router being ::1. A host's address is s.addr[name+"/6"].
func (s *site) addIPv6() {
	s.t.Helper()
	s.router.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0) })
	for name, ns := range s.all() {
		index := s.addr[name].As4()[3] / 4
		gateway := netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%d::1", index))
		s.addr[name+"/6"] = gateway.Next()
		for _, end := range []struct {
			ns   *netnstest.NS
			dev  string
			addr netip.Addr
		}{{s.router, "to-" + name, gateway}, {ns, "eth1", gateway.Next()}} {
			link, err := end.ns.Link.LinkByName(end.dev)
			check(s.t, err)
			addr := &net.IPNet{IP: end.addr.AsSlice(), Mask: net.CIDRMask(64, 128)}
			check(s.t, end.ns.Link.AddrAdd(link, &netlink.Addr{IPNet: addr, Flags: unix.IFA_F_NODAD}))
		}
		check(s.t, ns.Link.RouteReplace(&netlink.Route{Dst: prefix("::/0"), Gw: gateway.AsSlice()}))
	}
}

// all gives the client and the hosts by name.
func (s *site) all() map[string]*netnstest.NS {
	all := map[string]*netnstest.NS{"client": s.client}
	for name, ns := range s.hosts {
		all[name] = ns
	}
	return all
}

// setMTU sets what every link takes, at both ends.
func (s *site) setMTU(mtu int) {
	s.t.Helper()
	for name, ns := range s.all() {
		for ns, dev := range map[*netnstest.NS]string{s.router: "to-" + name, ns: "eth1"} {
			link, err := ns.Link.LinkByName(dev)
			check(s.t, err)
			check(s.t, ns.Link.LinkSetMTU(link, mtu))
		}
	}
}

// routeTo has the router send packets for an address to a host.
func (s *site) routeTo(address, host string) {
	s.t.Helper()
	addr := netip.MustParseAddr(address)
	via := s.addr[host]
	if addr.Is6() {
		via = s.addr[host+"/6"]
	}
	dst := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
	check(s.t, s.router.Link.RouteReplace(&netlink.Route{Dst: dst, Gw: via.AsSlice()}))
}

// tooBig counts how often the client was told that a packet is too big, by the counters of its kernel.
func (s *site) tooBig() (n int) {
	s.t.Helper()
	s.client.Do(func() error {
		// of this thread's namespace
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		text6, err := os.ReadFile("/proc/thread-self/net/snmp6")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text) + string(text6)) {
			var count, skip int
			if _, err := fmt.Sscanf(line, "Icmp: %d %d %d %d", &skip, &skip, &skip, &count); err == nil {
				n += count // InDestUnreachs: nothing else is unreachable here
			}
			if _, err := fmt.Sscanf(line, "Icmp6InPktTooBigs %d", &count); err == nil {
				n += count
			}
		}
		return nil
	})
	return n
}
