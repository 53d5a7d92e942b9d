package rhi

import (
	"strings"
	"testing"
	"time"
)

const goodNode = `
rhi:
  asn: 65011
  router_id: 198.51.100.3
  hold: 3s
  neighbors:
    - {name: core, address: 198.51.100.2, asn: 65001, passive: true, prepend: 2}
    - {name: spare, address: 198.51.100.4, asn: 65001}
  announce: [198.51.100.0/25]
  router:
    pass: [203.0.113.0/24, 0.0.0.0/0]
`

func TestConfig(t *testing.T) {
	t.Parallel()
	cfg, err := decode("node.yml", []byte(goodNode))
	if err != nil {
		t.Fatal(err)
	}
	n := Neighbor{Name: "core", Address: addrs("198.51.100.2")[0], ASN: 65001, Passive: true, Prepend: 2}
	if cfg.ASN != 65011 || cfg.Hold != 3*time.Second || len(cfg.Neighbors) != 2 || cfg.Neighbors[0] != n || len(cfg.Router.Pass) != 2 {
		t.Errorf("got %+v", cfg)
	}
	cfg, err = decode("node.yml", []byte(strings.ReplaceAll(goodNode, "  hold: 3s\n", "")))
	if err != nil || cfg.Hold != 9*time.Second {
		t.Errorf("default hold: got %v, %v", cfg.Hold, err)
	}
}

func TestConfigComplaints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, old, new, complaint string }{
		{"no asn", "  asn: 65011\n", "", "node.yml:2: rhi.asn: missing"},
		{"AS_TRANS", "asn: 65011", "asn: 23456", "node.yml:3: rhi.asn: 23456 is reserved"},
		{"no router_id", "  router_id: 198.51.100.3\n", "", "rhi.router_id: missing"},
		{"IPv6 router_id", "198.51.100.3", "2001:db8::3", "2001:db8::3 is no BGP identifier"},
		{"short hold", "hold: 3s", "hold: 2s", "node.yml:5: rhi.hold: 2s is out of range; use 3s to 65535s"},
		{"broken hold", "hold: 3s", "hold: 3500ms", "use 4s"},
		{"unnamed neighbor", "name: spare, ", "", "rhi.neighbors[1].name: missing"},
		{"same name", "name: spare", "name: core", `"core" names two neighbors`},
		{"no address", "address: 198.51.100.4, ", "", "rhi.neighbors[1].address: missing"},
		{"IPv4 neighbor in IPv6", "198.51.100.4", `"::ffff:198.51.100.4"`, "write 198.51.100.4"},
		{"link-local neighbor", "198.51.100.4", "fe80::4", "fe80::4 is link-local"},
		{"same address", "198.51.100.4", "198.51.100.2", "198.51.100.2 stands for two neighbors"},
		{"itself", "198.51.100.4", "198.51.100.3", "a node is not its own neighbor"},
		{"loopback neighbor", "198.51.100.4", "127.0.0.1", "127.0.0.1 is no address of another host"},
		{"iBGP", "asn: 65001}", "asn: 65011}", "65011 is the own AS, and this version speaks no iBGP"},
		{"no peer asn", ", asn: 65001}", "}", "rhi.neighbors[1].asn: missing"},
		{"much prepend", "prepend: 2", "prepend: 11", "node.yml:7: rhi.neighbors[0].prepend: 11 is out of range; use 0 to 10"},
		{"host bits", "198.51.100.0/25", "198.51.100.1/25", "node.yml:9: rhi.announce[0]: 198.51.100.1/25 has bits set beyond its length; write 198.51.100.0/25"},
		{"IPv6 announce", "198.51.100.0/25", "2001:db8::/32", "node.yml:9: rhi.announce[0]: 2001:db8::/32: no rhi neighbor has an IPv6 address"},
		{"pass twice", "0.0.0.0/0", "203.0.113.0/24", "node.yml:11: rhi.router.pass[1]: 203.0.113.0/24 is given twice"},
		{"unknown key", "prepend", "prepends", `did you mean "prepend"?`},
		{"no neighbors", goodNode[strings.Index(goodNode, "  neighbors:"):], "", "rhi.neighbors: none given"},
	} {
		text := strings.ReplaceAll(goodNode, c.old, c.new)
		if text == goodNode {
			t.Errorf("%s: the case changes nothing", c.name)
		}
		if _, err := decode("node.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: got %v, want %q in it", c.name, err, c.complaint)
		}
	}
}

// A node file is either refused or gives a config that the speaker can be started with.
func FuzzConfig(f *testing.F) {
	f.Add(goodNode)
	f.Add(strings.ReplaceAll(goodNode, "198.51.100.4", "\"2001:db8::4\""))
	f.Add("rhi:\n")
	f.Add("rhi: {asn: 1, router_id: 192.0.2.1, hold: 3s, neighbors: [{name: a, address: 192.0.2.2, asn: 2}], router: }")
	f.Add("rhi: {announce: [0.0.0.0/0, ::/0], neighbors: [{address: \"::1%eth0\"}, {}]}")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := decode("node.yml", []byte(text))
		if err != nil || cfg.ASN == 0 {
			return
		}
		if cfg.Hold < minHold || len(cfg.Neighbors) == 0 || !cfg.RouterID.Is4() {
			t.Errorf("accepted %+v", cfg)
		}
		for _, p := range cfg.Announce {
			if _, err := ownPaths(cfg.Announce); err != nil {
				t.Errorf("accepted %v: %v", p, err)
			}
		}
		New(*cfg, Options{}).Status()
	})
}
