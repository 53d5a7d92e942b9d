package real

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"anycastle/internal/netnstest"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

var (
	vip1 = netip.MustParseAddr("203.0.113.10")
	vip2 = netip.MustParseAddr("203.0.113.11")
)

func newRole(t *testing.T, cfg Config) *Role {
	t.Helper()
	r, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// onLoopback lists the addresses of lo beside its own.
func onLoopback(t *testing.T, ns *netnstest.NS) []string {
	t.Helper()
	lo, err := ns.Link.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := ns.Link.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, a := range addrs {
		if !a.IP.IsLoopback() {
			list = append(list, a.IPNet.String())
		}
	}
	slices.Sort(list)
	return list
}

func expect(t *testing.T, what string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestVIPsOnLoopback starts twice, as after a kill, then with another config, and ends, beside an address that the
// administrator has put there.
func TestVIPsOnLoopback(t *testing.T) {
	ns := netnstest.New(t)
	lo, err := ns.Link.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	foreign := &net.IPNet{IP: net.ParseIP("192.0.2.1"), Mask: net.CIDRMask(32, 32)}
	if err := ns.Link.AddrAdd(lo, &netlink.Addr{IPNet: foreign}); err != nil {
		t.Fatal(err)
	}
	both := newRole(t, Config{VIPs: []netip.Addr{vip1, vip2}})
	for range 2 {
		ns.Do(both.addVIPs)
		expect(t, "after a start", []string{"192.0.2.1/32", "203.0.113.10/32", "203.0.113.11/32"}, onLoopback(t, ns))
	}
	ns.Do(newRole(t, Config{VIPs: []netip.Addr{vip2}}).addVIPs)
	expect(t, "with another config", []string{"192.0.2.1/32", "203.0.113.11/32"}, onLoopback(t, ns))
	for range 2 {
		ns.Do(both.removeVIPs)
		expect(t, "after the end", []string{"192.0.2.1/32"}, onLoopback(t, ns))
	}
}

func TestUplinkSysctls(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth1", netip.MustParsePrefix("198.51.100.9/24"), peer, "eth0", netip.Prefix{})
	role := newRole(t, Config{Uplinks: []string{"eth1"}, VIPs: []netip.Addr{vip1}})
	for _, tc := range []struct{ before, after string }{
		{"0", "0"}, // no filter stays no filter
		{"1", "2"}, // strict becomes loose
		{"2", "2"},
	} {
		ns.Do(func() error { return os.WriteFile(sysctlPath("eth1", "rp_filter"), []byte(tc.before), 0) })
		for range 2 {
			ns.Do(func() error { return role.setUpUplink("eth1") })
		}
		for key, want := range map[string]string{"arp_ignore": "1", "arp_announce": "2", "rp_filter": tc.after} {
			var text []byte
			ns.Do(func() (err error) {
				text, err = os.ReadFile(sysctlPath("eth1", key))
				return err
			})
			if got := strings.TrimSpace(string(text)); got != want {
				t.Errorf("rp_filter %s before: %s is %s, want %s", tc.before, key, got, want)
			}
		}
	}
}

func TestOwnAddresses(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth1", netip.MustParsePrefix("198.51.100.9/24"), peer, "eth0", netip.Prefix{})
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
		err  string
	}{
		{"of the uplink", Config{Uplinks: []string{"eth1"}}, "198.51.100.9", ""},
		{"given", Config{Uplinks: []string{"eth1"}, Addresses: []netip.Addr{vip2}}, "203.0.113.11", ""},
		{"no interface", Config{Uplinks: []string{"eth9"}}, "", "uplink eth9: no such interface here"},
		{"no address", Config{Uplinks: []string{"lo"}, VIPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, "", "set real.addresses"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var own []netip.Addr
			var err error
			ns.Do(func() error {
				own, err = newRole(t, tc.cfg).ownAddresses()
				return nil
			})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %s", err, tc.err)
				}
			} else if err != nil || len(own) != 1 || own[0].String() != tc.want {
				t.Errorf("own addresses %v, %v, want %s", own, err, tc.want)
			}
		})
	}
}
