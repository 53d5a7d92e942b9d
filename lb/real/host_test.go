package real

import (
	"fmt"
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
	vip6 = netip.MustParseAddr("2001:db8:0:25::10")
	six2 = netip.MustParseAddr("2001:db8:0:25::11")
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
	addrs, err := ns.Link.AddrList(lo, netlink.FAMILY_ALL)
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
	addAddress(t, ns, "eth1", "2001:db8::9/64")
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
		err  string
	}{
		{"of the uplink", Config{Uplinks: []string{"eth1"}}, "198.51.100.9 2001:db8::9", ""},
		{"given", Config{Uplinks: []string{"eth1"}, Addresses: []netip.Addr{vip2}}, "203.0.113.11", ""},
		{"no interface", Config{Uplinks: []string{"eth9"}}, "", "uplink eth9: no such interface here"},
		{"a vip among them", Config{Uplinks: []string{"eth1"}, VIPs: []netip.Addr{netip.MustParseAddr("198.51.100.9")}}, "2001:db8::9", ""},
		{"no address", Config{Uplinks: []string{"lo"}, VIPs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}}, "", "set real.addresses"},
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
			} else if err != nil || strings.Trim(fmt.Sprint(own), "[]") != tc.want {
				t.Errorf("own addresses %v, %v, want %s", own, err, tc.want)
			}
		})
	}
}
