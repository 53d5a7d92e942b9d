package real

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"anycastle/internal/netnstest"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience bounds every wait; the machine may be busy.
const patience = 20 * time.Second

// eventually polls a condition that the kernel or another goroutine brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

func addAddress(t *testing.T, ns *netnstest.NS, iface, prefix string) {
	t.Helper()
	link, err := ns.Link.LinkByName(iface)
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := ns.Link.AddrAdd(link, a); err != nil {
		t.Fatal(err)
	}
}

// TestVIPsOnLoopback starts twice, as after a kill, then with another config, and ends, beside addresses that the
// administrator has put there, one of which is a VIP.
func TestVIPsOnLoopback(t *testing.T) {
	ns := netnstest.New(t)
	addAddress(t, ns, "lo", "192.0.2.1/32")
	addAddress(t, ns, "lo", "2001:db8::1/128")
	addAddress(t, ns, "lo", "203.0.113.12/32")
	given := netip.MustParseAddr("203.0.113.12")
	all := newRole(t, Config{VIPs: []netip.Addr{vip1, vip2, vip6, six2, given}})
	for range 2 {
		ns.Do(all.addVIPs)
		expect(t, "after a start", []string{"192.0.2.1/32", "2001:db8:0:25::10/128", "2001:db8:0:25::11/128", "2001:db8::1/128",
			"203.0.113.10/32", "203.0.113.11/32", "203.0.113.12/32"}, onLoopback(t, ns))
	}
	ns.Do(newRole(t, Config{VIPs: []netip.Addr{vip2, six2}}).addVIPs)
	expect(t, "with another config", []string{"192.0.2.1/32", "2001:db8:0:25::11/128", "2001:db8::1/128", "203.0.113.11/32",
		"203.0.113.12/32"}, onLoopback(t, ns))
	for range 2 {
		ns.Do(all.removeVIPs)
		expect(t, "after the end", []string{"192.0.2.1/32", "2001:db8::1/128", "203.0.113.12/32"}, onLoopback(t, ns))
	}
}

// TestVIPsAreTakenAtOnce connects to each VIP as soon as it is added.
func TestVIPsAreTakenAtOnce(t *testing.T) {
	for range 10 {
		ns := netnstest.New(t)
		role := newRole(t, Config{VIPs: []netip.Addr{vip1, vip6}})
		ns.Do(func() error {
			if err := role.addVIPs(); err != nil {
				return err
			}
			for _, vip := range role.cfg.VIPs {
				ln, err := net.Listen("tcp", netip.AddrPortFrom(vip, 25).String())
				if err != nil {
					return err
				}
				conn, err := net.DialTimeout("tcp", ln.Addr().String(), patience)
				if err != nil {
					return err
				}
				conn.Close()
				ln.Close()
			}
			return nil
		})
	}
}

// TestVIPOfAnEarlierVersion is marked by its label alone.
func TestVIPOfAnEarlierVersion(t *testing.T) {
	ns := netnstest.New(t)
	lo, err := ns.Link.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	old := &netlink.Addr{IPNet: &net.IPNet{IP: vip1.AsSlice(), Mask: net.CIDRMask(32, 32)}, Label: vipLabel}
	if err := ns.Link.AddrAdd(lo, old); err != nil {
		t.Fatal(err)
	}
	ns.Do(newRole(t, Config{VIPs: []netip.Addr{vip2}}).addVIPs)
	expect(t, "after a start", []string{"203.0.113.11/32"}, onLoopback(t, ns))
}

func TestNoIPv6OnLoopback(t *testing.T) {
	ns := netnstest.New(t)
	ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("1"), 0) })
	var err error
	ns.Do(func() error {
		err = newRole(t, Config{VIPs: []netip.Addr{vip6}}).addVIPs()
		return nil
	})
	if err == nil || err.Error() != "add VIP 2001:db8:0:25::10 to lo: IPv6 is switched off there; "+
		"`sysctl -w net.ipv6.conf.lo.disable_ipv6=0` switches it on" {
		t.Errorf("error %v names no mend", err)
	}
}

// neighbour asks for an address from a namespace and gives what the kernel there learns: true if somebody claims it.
func neighbour(t *testing.T, ns *netnstest.NS, iface string, addr netip.Addr) bool {
	t.Helper()
	link, err := ns.Link.LinkByName(iface)
	if err != nil {
		t.Fatal(err)
	}
	index := link.Attrs().Index
	host := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
	if err := ns.Link.RouteReplace(&netlink.Route{LinkIndex: index, Dst: host, Scope: netlink.SCOPE_LINK}); err != nil {
		t.Fatal(err)
	}
	var conn net.Conn
	ns.Do(func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(addr, 9).String())
		return err
	})
	defer conn.Close()
	claimed := false
	eventually(t, "an answer or silence about "+addr.String(), func() bool {
		list, err := ns.Link.NeighList(index, netlink.FAMILY_ALL)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			if ip, _ := netip.AddrFromSlice(n.IP); ip.Unmap() != addr {
				continue
			}
			if n.State&(netlink.NUD_REACHABLE|netlink.NUD_STALE|netlink.NUD_DELAY|netlink.NUD_PROBE) != 0 {
				claimed = true
				return true
			}
			return n.State&netlink.NUD_FAILED != 0
		}
		conn.Write([]byte("?")) // an earlier one may have been refused
		return false
	})
	return claimed
}

// TestNobodyClaimsVIPs asks for the VIPs on the network of the uplink, and for addresses that the server has to claim.
func TestNobodyClaimsVIPs(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth1", netip.MustParsePrefix("198.51.100.9/24"), peer, "eth0", netip.MustParsePrefix("198.51.100.1/24"))
	addAddress(t, ns, "eth1", "2001:db8::9/64")
	addAddress(t, peer, "eth0", "2001:db8::1/64")
	peer.Do(func() error { // silence is found sooner
		for _, family := range []string{"ipv4", "ipv6"} {
			path := "/proc/sys/net/" + family + "/neigh/eth0/retrans_time_ms"
			if err := os.WriteFile(path, []byte("50"), 0); err != nil {
				return err
			}
		}
		return nil
	})
	role := newRole(t, Config{Uplinks: []string{"eth1"}, VIPs: []netip.Addr{vip1, vip6}})
	ns.Do(func() error { return role.setUpUplink("eth1") })
	ns.Do(role.addVIPs)
	for addr, want := range map[string]bool{
		"198.51.100.9": true, "2001:db8::9": true, vip1.String(): false, vip6.String(): false,
	} {
		if got := neighbour(t, peer, "eth0", netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s claimed: %v, want %v", addr, got, want)
		}
	}
}

// TestVIPsAreNoSources opens connections that the server makes itself.
func TestVIPsAreNoSources(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth1", netip.MustParsePrefix("198.51.100.9/24"), peer, "eth0", netip.Prefix{})
	addAddress(t, ns, "eth1", "2001:db8::9/64")
	eth, err := ns.Link.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	for _, gw := range []string{"198.51.100.1", "2001:db8::1"} {
		if err := ns.Link.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.ParseIP(gw)}); err != nil {
			t.Fatal(err)
		}
	}
	// among them one closer to the destination than the server's own address, which would be chosen by rule 8
	near := netip.MustParseAddr("2001:db8:0:99::10")
	ns.Do(newRole(t, Config{VIPs: []netip.Addr{vip1, vip6, near}}).addVIPs)
	for to, want := range map[string]string{"192.0.2.7:25": "198.51.100.9", "[2001:db8:0:99::11]:25": "2001:db8::9"} {
		var conn net.Conn
		ns.Do(func() (err error) {
			conn, err = net.Dial("udp", to)
			return err
		})
		if got := netip.MustParseAddrPort(conn.LocalAddr().String()).Addr().String(); got != want {
			t.Errorf("a connection to %s comes from %s, want %s", to, got, want)
		}
		conn.Close()
	}
}

// FuzzParseAddr looks for panics, and for an address that no message can hold.
func FuzzParseAddr(f *testing.F) {
	f.Add([]byte{2, 32, 0x80, 254, 1, 0, 0, 0, 8, 0, 1, 0, 203, 0, 113, 10, 8, 0, 2, 0, 203, 0, 113, 10, 5, 0, 11, 0, vipOrigin, 0, 0, 0})
	f.Add([]byte{2, 32, 0x80, 254, 1, 0, 0, 0, 3, 0, 1, 0})
	f.Fuzz(func(t *testing.T, msg []byte) {
		if _, a, ok := parseAddr(msg); ok && !a.IsValid() {
			t.Errorf("%x is taken as %v", msg, a)
		}
	})
}
