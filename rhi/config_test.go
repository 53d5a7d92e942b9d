package rhi

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	n := Neighbor{Name: "core", Address: addrs("198.51.100.2")[0], ASN: 65001, Passive: true, Peering: Peering{Group: "default", Prepend: 2}}
	if diff := cmp.Diff(n, cfg.Neighbors[0], byValue); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if cfg.ASN != 65011 || cfg.Hold != 3*time.Second || len(cfg.Neighbors) != 2 || len(cfg.Router.Pass) != 2 {
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
		{"link-local neighbor without link", "198.51.100.4", "fe80::4", "fe80::4 is link-local and may be on any link; name the link, such as fe80::4%eth0"},
		{"link by number", "198.51.100.4", `"fe80::4%2"`, `"2" is not the name of a link`},
		{"long name of link", "198.51.100.4", `"fe80::4%abcdefghijklmnop"`, "is not the name of a link"},
		{"link of a global neighbor", "198.51.100.4", `"2001:db8::4%eth0"`, "write 2001:db8::4"},
		{"link-local afar", "address: 198.51.100.4", `multihop: 2, address: "fe80::4%eth0"`, "rhi.neighbors[1].multihop: a link-local address is on a link"},
		{"same address", "198.51.100.4", "198.51.100.2", "198.51.100.2 stands for two neighbors"},
		{"itself", "198.51.100.4", "198.51.100.3", "a node is not its own neighbor"},
		{"loopback neighbor", "198.51.100.4", "127.0.0.1", "127.0.0.1 is no address of another host"},
		{"iBGP", "asn: 65001}", "asn: 65011}", "65011 is the own AS, and this version speaks no iBGP"},
		{"no peer asn", ", asn: 65001}", "}", "rhi.neighbors[1].asn: missing"},
		{"much prepend", "prepend: 2", "prepend: 11", "node.yml:7: rhi.neighbors[0].prepend: 11 is out of range; use 0 to 10"},
		{"host bits", "198.51.100.0/25", "198.51.100.1/25", "node.yml:9: rhi.announce[0]: 198.51.100.1/25 has bits set beyond its length; write 198.51.100.0/25"},
		{"IPv6 announce", "198.51.100.0/25", "2001:db8::/32", "node.yml:9: rhi.announce[0]: 2001:db8::/32: no rhi neighbor takes ipv6 routes"},
		{"pass to one without prefixes", "prepend: 2}", "pass: [{prepend: 2}]}", "rhi.neighbors[0].pass[0].prefixes: missing"},
		{"pass to one, prepend", "prepend: 2}", "pass: [{prefixes: [203.0.113.0/24], prepend: 11}]}", "pass[0].prepend: 11 is out of range; use 0 to 10"},
		{"pass to one, no router", "prepend: 2}\n    - {name: spare, address: 198.51.100.4, asn: 65001}\n  announce: [198.51.100.0/25]\n  router:\n    pass: [203.0.113.0/24, 0.0.0.0/0]\n",
			"pass: []}\n", "rhi.neighbors[0].pass: the node is no router"},
		{"settle for hours", "  router:\n", "  router:\n    settle: 2h\n", "rhi.router.settle: 2h0m0s is out of range; use 0s to 1m"},
		{"leave before the end", "  router:\n", "  router:\n    leave: -1s\n", "rhi.router.leave: -1s is out of range; use 0s to 1m"},
		{"source of another family", "  router:\n", "  router:\n    source: 2001:db8::1\n", "rhi.router.source: 2001:db8::1 is no IPv4 address"},
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

// Two neighbors may have the same address on two links, if nothing has to tell them apart.
func TestSameLinkLocalAddress(t *testing.T) {
	t.Parallel()
	node := func(one, other string) error {
		_, err := decode("node.yml", fmt.Appendf(nil, `
rhi:
  asn: 65011
  router_id: 198.51.100.3
  groups: {isp: {}}
  neighbors:
    - {name: spare, address: 198.51.100.4, asn: 65001, group: isp}
    - {name: one, address: "fe80::1%%eth1", asn: 65001, families: [ipv4, ipv6]%s}
    - {name: other, address: "fe80::1%%eth2", asn: 65002%s}
`, one, other))
		return err
	}
	if err := node(", password: x, max_prefixes: 9", ", password: x, passive: true"); err != nil {
		t.Error(err)
	}
	for _, other := range []string{"group: isp", "prepend: 1", "password: x", "password_file: x", "watches: [west]"} {
		if err := node("", ", "+other); err == nil || !strings.Contains(err.Error(), `rhi.neighbors[2].address: "one" has the same address on another link`) {
			t.Errorf("%s: %v", other, err)
		}
	}
}

const richNode = `
rhi:
  asn: 65011
  router_id: 198.51.100.3
  neighbors:
    - {name: isp a, address: 198.51.100.2, asn: 65001, families: [ipv4, ipv6], next_hop: "2001:db8::3", password: of isp a, max_prefixes: 1000}
    - {name: far, address: "2001:db8:1::9", asn: 65002, families: [ipv4], password_file: /etc/anycastle/far, multihop: 5}
  dynamic:
    - {name: racks, prefix: 192.0.2.0/24, asn: 65003, password: of racks, max_peers: 3}
    - {name: labs, prefix: "2001:db8:2::/64", asn: 65004}
  announce: [203.0.113.0/24, "2001:db8:10::/48"]
`

func TestRichConfig(t *testing.T) {
	t.Parallel()
	cfg, err := decode("node.yml", []byte(richNode))
	if err != nil {
		t.Fatal(err)
	}
	var families [][]Family
	for _, p := range cfg.allPeers() {
		families = append(families, p.families())
	}
	if diff := cmp.Diff([][]Family{{IPv4, IPv6}, {IPv4}, {IPv4}, {IPv6}}, families); diff != "" {
		t.Errorf("families: -want +got\n%s", diff)
	}
	if d := cfg.Dynamic; d[0].MaxPeers != 3 || d[1].MaxPeers != defaultMaxPeers || d[1].Group != defaultGroup {
		t.Errorf("dynamic: %+v", d)
	}
	if got := cfg.listenAddresses(); len(got) != 2 {
		t.Errorf("listens on %v, want both families", got)
	}
}

func TestRichConfigComplaints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, old, new, complaint string }{
		{"no next hop", `next_hop: "2001:db8::3", `, "", "node.yml:6: rhi.neighbors[0].families: IPv6 routes over an IPv4 session need next_hop"},
		{"IPv4 next hop", "2001:db8::3", "192.0.2.1", "192.0.2.1 is no global IPv6 address"},
		{"link-local next hop", "2001:db8::3", "fe80::3", "fe80::3 is no global IPv6 address"},
		{"idle next hop", "families: [ipv4], ", `next_hop: "2001:db8::3", `, "rhi.neighbors[1].next_hop: only IPv6 routes over an IPv4 session need it"},
		{"no families", "[ipv4, ipv6]", "[]", "rhi.neighbors[0].families: none given"},
		{"same family", "families: [ipv4], ", "families: [ipv4, ipv4], ", "rhi.neighbors[1].families[1]: ipv4 is given twice"},
		{"odd family", "families: [ipv4], ", "families: [vpnv4], ", `"vpnv4" is not a family of routes; use ipv4 or ipv6`},
		{"two passwords", "password_file: /etc", "password: x, password_file: /etc", "rhi.neighbors[1].password_file: the password is given beside it"},
		{"long password", "of racks", strings.Repeat("x", 81), "rhi.dynamic[0].password: it has 81 characters; use 1 to 80"},
		{"empty password", "of racks", `""`, "rhi.dynamic[0].password: it has 0 characters"},
		{"one hop", "multihop: 5", "multihop: 1", "rhi.neighbors[1].multihop: 1 is out of range; use 2 to 255"},
		{"negative limit", "1000", "-1", `rhi.neighbors[0].max_prefixes: "-1" is no whole number`},
		{"range of the same name", "name: racks", "name: far", `rhi.dynamic[0].name: "far" names two neighbors`},
		{"no range", "prefix: 192.0.2.0/24, ", "", "rhi.dynamic[0].prefix: missing"},
		{"host bits", "192.0.2.0/24", "192.0.2.1/24", "rhi.dynamic[0].prefix: 192.0.2.1/24 has bits set beyond its length; write 192.0.2.0/24"},
		{"overlap", "2001:db8:2::/64", "192.0.2.128/25", `rhi.dynamic[1].prefix: 192.0.2.128/25 overlaps that of "racks"`},
		{"own AS", "asn: 65004", "asn: 65011", "rhi.dynamic[1].asn: 65011 is the own AS"},
		{"no peers", "max_peers: 3", "max_peers: 0", "rhi.dynamic[0].max_peers: 0 is out of range; use 1 to 1024"},
		{"anybody", "asn: 65004", "asn: 65004, multihop: 9", "rhi.dynamic[1].multihop: anybody may dial from afar"},
	} {
		text := strings.ReplaceAll(richNode, c.old, c.new)
		if text == richNode {
			t.Errorf("%s: the case changes nothing", c.name)
		}
		if _, err := decode("node.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: got %v, want %q in it", c.name, err, c.complaint)
		}
	}
}

func TestPasswordFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	for _, c := range []struct{ text, want, complaint string }{
		{"secret\n", "secret", ""},
		{"two words", "two words", ""},
		{"\n", "", "holds none; write one line"},
		{"two\nlines\n", "", "holds none; write one line"},
		{strings.Repeat("x", 81), "", "holds none; write one line of 1 to 80"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Peering{PasswordFile: file}.secret()
		if got != c.want || (err == nil) != (c.complaint == "") || err != nil && !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%q: got %q, %v", c.text, got, err)
		}
	}
	cfg := Config{Neighbors: []Neighbor{{Name: "far", Peering: Peering{PasswordFile: file + ".missing"}}}}
	if _, err := cfg.passwords(); err == nil || !strings.Contains(err.Error(), "peer far: read password: open") {
		t.Errorf("missing file: %v", err)
	}
}

// A node file is either refused or gives a config that the speaker can be started with.
func FuzzConfig(f *testing.F) {
	f.Add(goodNode)
	f.Add(strings.ReplaceAll(goodNode, "198.51.100.4", "\"2001:db8::4\""))
	f.Add(richNode)
	f.Add(ladderNode)
	f.Add(strings.ReplaceAll(goodNode, "asn: 65001}", "asn: 65001, watches: [west]}"))
	f.Add(strings.ReplaceAll(goodNode, "198.51.100.4", "\"fe80::4%eth0\""))
	f.Add("rhi:\n")
	f.Add("rhi: {asn: 1, router_id: 192.0.2.1, hold: 3s, neighbors: [{name: a, address: 192.0.2.2, asn: 2}], router: }")
	f.Add("rhi: {announce: [0.0.0.0/0, ::/0], neighbors: [{address: \"::1%eth0\"}, {}]}")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := decode("node.yml", []byte(text))
		if err != nil || cfg.ASN == 0 {
			return
		}
		if cfg.Hold < minHold || len(cfg.allPeers()) == 0 || !cfg.RouterID.Is4() {
			t.Errorf("accepted %+v", cfg)
		}
		for _, p := range cfg.Announce {
			if _, err := ownPaths(cfg.Announce, nil, 0); err != nil {
				t.Errorf("accepted %v: %v", p, err)
			}
		}
		if n := len(exportPolicy(cfg, routing)); n < len(cfg.allPeers())+2*len(cfg.audience()) {
			t.Errorf("%d lines of policy for %d peers", n, len(cfg.allPeers()))
		}
		New(*cfg, Options{}).Status()
	})
}
