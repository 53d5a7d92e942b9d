package netconf

import (
	"strings"
	"testing"

	"anycastle/internal/config"
)

const goodNode = `
net:
  forward: true
  loopback: [192.0.2.1/32]
  interfaces:
    - {name: eth1, addresses: [198.51.100.3/31], mtu: 1600}
    - {name: eth2, addresses: [198.51.100.5/31]}
  routes:
    - {to: default, via: [198.51.100.2, 198.51.100.4], source: 192.0.2.1}
    - {to: 203.0.113.0/24, via: [198.51.100.2]}
`

func decode(text string) (Config, error) {
	var cfg Config
	doc, err := config.Parse("node.yml", []byte(text))
	if err != nil {
		return cfg, err
	}
	cfg.Validate(doc.Decode("net", &cfg))
	return cfg, doc.Err()
}

func TestConfig(t *testing.T) {
	t.Parallel()
	cfg, err := decode(goodNode)
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.Forward || len(cfg.Loopback) != 1 || cfg.Interfaces[0].MTU != 1600 || cfg.Routes[0].To.String() != "0.0.0.0/0" || len(cfg.Routes[0].Via) != 2 {
		t.Errorf("got %+v", cfg)
	}
}

func TestConfigComplaints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, old, new, complaint string }{
		{"no length", "192.0.2.1/32", "192.0.2.1", `node.yml:4: net.loopback[0]: "192.0.2.1" is not a prefix`},
		{"IPv6 address", "192.0.2.1/32", "2001:db8::1/128", "2001:db8::1/128 is IPv6, which this version does not set up"},
		{"multicast", "192.0.2.1/32", "224.0.0.1/32", "224.0.0.1/32 is no address for a node"},
		{"subnet", "192.0.2.1/32", "192.0.2.0/24", "192.0.2.0/24 is the subnet itself; give an address in it, such as 192.0.2.1/24"},
		{"address twice", "192.0.2.1/32", "198.51.100.3/32", "198.51.100.3 is given twice on this node"},
		{"unnamed", "name: eth1, ", "", "node.yml:6: net.interfaces[0].name: missing"},
		{"lo", "name: eth1", "name: lo", "put its addresses under `loopback`"},
		{"long name", "name: eth1", "name: eth1eth1eth1eth1", "is no interface name"},
		{"path as a name", "name: eth1", "name: ..", "is no interface name"},
		{"name twice", "name: eth2", "name: eth1", "eth1 is given twice"},
		{"small mtu", "mtu: 1600", "mtu: 60", "60 is out of range"},
		{"bad destination", "to: default", "to: defualt", `"defualt" is not a prefix such as 203.0.113.0/24, or default`},
		{"no destination", "to: default, ", "", "net.routes[0].to: missing"},
		{"host bits", "203.0.113.0/24", "203.0.113.1/24", "write 203.0.113.0/24"},
		{"IPv6 route", "203.0.113.0/24", "2001:db8::/32", "2001:db8::/32 is IPv6"},
		{"two defaults", "203.0.113.0/24", "0.0.0.0/0", "two routes to 0.0.0.0/0"},
		{"no via", ", via: [198.51.100.2]}", "}", "net.routes[1].via: missing"},
		{"via off link", "via: [198.51.100.2]", "via: [198.51.100.9]", "node.yml:10: net.routes[1].via[0]: 198.51.100.9 is on no interface's subnet"},
		{"via itself", "via: [198.51.100.2]", "via: [198.51.100.3]", "198.51.100.3 is this node's own address"},
		{"via twice", "[198.51.100.2, 198.51.100.4]", "[198.51.100.2, 198.51.100.2]", "198.51.100.2 is given twice"},
		{"foreign source", "source: 192.0.2.1", "source: 192.0.2.9", "192.0.2.9 is no address of this node"},
		{"unknown key", "forward", "forwards", `did you mean "forward"?`},
	} {
		text := strings.ReplaceAll(goodNode, c.old, c.new)
		if text == goodNode {
			t.Errorf("%s: the case changes nothing", c.name)
		}
		if _, err := decode(text); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: got %v, want %q in it", c.name, err, c.complaint)
		}
	}
}

// A node file is either refused or gives a config that can be put into netlink messages.
func FuzzConfig(f *testing.F) {
	f.Add(goodNode)
	f.Add("net:\n")
	f.Add("net: {routes: [{}, {to: default, via: []}], interfaces: [{name: eth1, addresses: [0.0.0.0/0, ::/0]}]}")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := decode(text)
		if err != nil {
			return
		}
		for _, r := range cfg.Routes {
			if k := kernelRoute(r); k.Dst.IP.To4() == nil || (k.Gw == nil) == (len(k.MultiPath) == 0) {
				t.Errorf("accepted %+v, which becomes %v", r, k)
			}
		}
		for _, ifc := range cfg.Interfaces {
			if ifc.Name == "" || strings.Contains(ifc.Name, "/") {
				t.Errorf("accepted %+v", ifc)
			}
		}
	})
}
