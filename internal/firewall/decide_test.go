package firewall

import (
	"net/netip"
	"testing"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	vip, front := netip.MustParsePrefix("203.0.113.25/32"), netip.MustParsePrefix("198.51.100.0/26")
	cfg := Config{
		Zones: map[string][]string{"outside": {"eth1"}, "lb": {"eth2", "eth5"}, "front": {"eth3", "eth4"}},
		Allow: []Rule{
			{From: []string{"outside"}, To: []string{"lb", "front"}, ToPrefixes: []netip.Prefix{vip}, Proto: TCP, Ports: []Ports{{25, 25}, {1000, 1999}}},
			{From: []string{"lb"}, To: []string{"front"}, FromPrefixes: []netip.Prefix{front}, Proto: GUE},
			{From: []string{"outside"}, To: []string{"front"}, Proto: UDP},
			{From: []string{"lb", "outside"}, To: []string{"lb", "outside"}, Proto: Any},
			{From: []string{"lb"}, To: []string{"front"}, Proto: ICMP},
		},
	}
	for _, c := range []struct {
		name         string
		from, to     string
		source, dest string
		proto        Proto
		port         uint16
		want         int
	}{
		{"a port", "outside", "lb", "192.0.2.1", "203.0.113.25", TCP, 25, 1},
		{"in a range", "outside", "front", "192.0.2.1", "203.0.113.25", TCP, 1999, 1},
		{"another port", "outside", "front", "192.0.2.1", "203.0.113.25", TCP, 26, 0},
		{"another address", "outside", "front", "192.0.2.1", "203.0.113.26", TCP, 25, 0},
		{"another zone", "lb", "front", "192.0.2.1", "203.0.113.25", TCP, 25, 0},
		{"GUE", "lb", "front", "198.51.100.1", "198.51.100.2", GUE, 0, 2},
		{"GUE by its port", "lb", "front", "198.51.100.1", "198.51.100.2", UDP, 6080, 2},
		{"GUE from elsewhere", "lb", "front", "192.0.2.1", "198.51.100.2", GUE, 0, 0},
		{"GUE by a rule for UDP", "outside", "front", "192.0.2.1", "198.51.100.2", GUE, 0, 3},
		{"IPv6 meets a rule without prefixes", "outside", "front", "2001:db8::1", "2001:db8::2", UDP, 53, 3},
		{"anything", "lb", "lb", "192.0.2.1", "192.0.2.2", IPIP, 0, 4},
		{"back by the only interface", "outside", "outside", "192.0.2.1", "192.0.2.2", IPIP, 0, 0},
		{"echo", "lb", "front", "192.0.2.1", "192.0.2.2", ICMP, 0, 5},
	} {
		got := cfg.Decide(Question{c.from, c.to, netip.MustParseAddr(c.source), netip.MustParseAddr(c.dest), c.proto, c.port})
		if got != c.want {
			t.Errorf("%s: rule %d, want %d", c.name, got, c.want)
		}
	}
	for name, want := range map[string]string{"eth4": "front", "eth9": ""} {
		if got := cfg.Zone(name); got != want {
			t.Errorf("%s is in zone %q, want %q", name, got, want)
		}
	}
}
