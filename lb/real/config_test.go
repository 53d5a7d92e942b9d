package real

import (
	"fmt"
	"strings"
	"testing"

	"anycastle/internal/config"
	"anycastle/internal/mtlstest"
)

const valid = `real:
  uplinks: [eth1]
  addresses: [198.51.100.9]
  vips: [203.0.113.10]
`

func parse(text string) error {
	var cfg Config
	doc, err := config.Parse("node.yml", []byte(text))
	if err != nil {
		return err
	}
	cfg.Validate(doc.Decode("real", &cfg))
	return doc.Err()
}

func TestValid(t *testing.T) {
	if err := parse(valid); err != nil {
		t.Error(err)
	}
}

// withAgent adds an agent with what a CA has signed.
func withAgent(t *testing.T, listen string) string {
	t.Helper()
	f := mtlstest.NewCA(t).Node(t, "mx1")
	return valid + fmt.Sprintf("  agent:\n    %stls: {cert: %s, key: %s, ca: %s}\n", listen, f.Cert, f.Key, f.CA)
}

func TestAgentConfig(t *testing.T) {
	for _, tc := range []struct{ name, listen, want string }{
		{"default", "", ":6087"},
		{"port", "listen: \":7000\"\n    ", ":7000"},
		{"address", "listen: 198.51.100.9:7000\n    ", "198.51.100.9:7000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := withAgent(t, tc.listen)
			if err := parse(text); err != nil {
				t.Fatal(err)
			}
			doc, err := config.Parse("node.yml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			var cfg Config
			doc.Decode("real", &cfg)
			if got := cfg.Agent.Listen.String(); got != tc.want {
				t.Errorf("listens on %s, want %s", got, tc.want)
			}
		})
	}
}

func TestInvalidAgent(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"no files", valid + "  agent: {}\n", "node.yml:5: real.agent.tls.cert: missing"},
		{"listens on a vip", withAgent(t, "listen: 203.0.113.10:6087\n    "), "node.yml:6: real.agent.listen: 203.0.113.10 is a VIP"},
		{"no port", withAgent(t, "listen: 198.51.100.9\n    "), "node.yml:6: real.agent.listen:"},
		{"looks too seldom", withAgent(t, "look: 2s\n    "), "node.yml:6: real.agent.look: 2s is out of range; use 20ms to 1s"},
		{"unknown key", withAgent(t, "port: 6087\n    "), "node.yml:6: real.agent.port: unknown key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := parse(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestInvalid(t *testing.T) {
	for _, tc := range []struct{ name, old, new, want string }{
		{"no uplink", "[eth1]", "[]", "node.yml:2: real.uplinks: no uplink"},
		{"uplink twice", "[eth1]", "[eth1, eth1]", "node.yml:2: real.uplinks[1]: uplink \"eth1\" is named twice"},
		{"uplink lo", "[eth1]", "[lo]", "node.yml:2: real.uplinks[0]: lo is no uplink"},
		{"no vip", "[203.0.113.10]", "[]", "node.yml:4: real.vips: no VIP"},
		{"vip twice", "[203.0.113.10]", "[203.0.113.10, 203.0.113.10]", "node.yml:4: real.vips[1]: 203.0.113.10 is given twice"},
		{"ipv4 in ipv6", "203.0.113.10", "\"::ffff:203.0.113.10\"", "node.yml:4: real.vips[0]: ::ffff:203.0.113.10 is IPv4 in an IPv6 form; write 203.0.113.10"},
		{"link-local", "203.0.113.10", "fe80::1", "node.yml:4: real.vips[0]: fe80::1 is no address"},
		{"ipv6 twice", "203.0.113.10", "2001:db8::1, \"2001:db8:0::1\"", "node.yml:4: real.vips[1]: 2001:db8::1 is given twice"},
		{"vip is own address", "203.0.113.10", "198.51.100.9", "node.yml:4: real.vips[0]: 198.51.100.9 is among addresses too"},
		{"multicast", "198.51.100.9", "224.0.0.1", "node.yml:3: real.addresses[0]: 224.0.0.1 is no address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := parse(strings.Replace(valid, tc.old, tc.new, 1))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}
