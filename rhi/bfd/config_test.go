package bfd

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestValidate(t *testing.T) {
	good := Config{Peer: "core", Remote: netip.MustParseAddr("192.0.2.1")}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string // of the error; empty: none
	}{
		{"the least that is needed", func(c *Config) {}, ""},
		{"no name", func(c *Config) { c.Peer = "" }, "no peer name; name it"},
		{"no remote", func(c *Config) { c.Remote = netip.Addr{} }, "no remote address"},
		{"multicast", func(c *Config) { c.Remote = netip.MustParseAddr("224.0.0.5") }, "no address of another host"},
		{"any address", func(c *Config) { c.Remote = netip.IPv6Unspecified() }, "no address of another host"},
		{"itself", func(c *Config) { c.Local = c.Remote }, "both ends"},
		{"two families", func(c *Config) { c.Local = netip.MustParseAddr("2001:db8::1") }, "of two families"},
		{"IPv4 in IPv6 form", func(c *Config) { c.Local = netip.MustParseAddr("::ffff:192.0.2.9") }, ""},
		{"link-local and no link", func(c *Config) { c.Remote = netip.MustParseAddr("fe80::1") }, "name the link"},
		{"link-local with its link", func(c *Config) { c.Remote = netip.MustParseAddr("fe80::1"); c.Interface = "eth1" }, ""},
		{"link-local with a zone", func(c *Config) { c.Remote = netip.MustParseAddr("fe80::1%eth1") }, ""},
		{"link-local with both at odds", func(c *Config) { c.Remote = netip.MustParseAddr("fe80::1%eth1"); c.Interface = "eth2" }, "is not the interface"},
		{"far and on a link", func(c *Config) { c.Multihop, c.Interface, c.Local = true, "eth1", netip.MustParseAddr("192.0.2.9") }, "leave out \"eth1\""},
		{"far from nowhere", func(c *Config) { c.Multihop = true }, "needs its local address"},
		{"too often", func(c *Config) { c.Transmit = 9 * time.Millisecond }, "transmit interval 9ms is out of range; use 10ms to 1m0s"},
		{"too seldom", func(c *Config) { c.Receive = time.Hour }, "receive interval 1h0m0s is out of range"},
		{"negative", func(c *Config) { c.Receive = -1 }, "out of range"},
		{"long secret", func(c *Config) { c.Key.Secret = strings.Repeat("s", 21) }, "has 21 octets"},
		{"longest secret", func(c *Config) { c.Key.Secret = strings.Repeat("s", 20) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			err := cfg.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), cfg.Key.Secret) && cfg.Key.Secret != "" {
				t.Error("the error shows the secret")
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	got := Config{Peer: "a", Remote: netip.MustParseAddr("fe80::1%eth1")}.normal()
	want := Config{
		Peer: "a", Remote: netip.MustParseAddr("fe80::1"), Interface: "eth1", MinTTL: 255, Multiplier: 3,
		Transmit: 300 * time.Millisecond, Receive: 300 * time.Millisecond,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	far := Config{Remote: netip.MustParseAddr("198.51.100.1"), Multihop: true}
	if ttl := far.normal().MinTTL; ttl != 254 {
		t.Errorf("over several hops the least TTL is %d", ttl)
	}
}
