package monitor

import (
	"strings"
	"testing"
	"time"

	"anycastle/internal/config"
)

// decode reads a section as a node file has it.
func decode(t testing.TB, text string) (Config, error) {
	t.Helper()
	doc, err := config.Parse("node.yml", []byte(text))
	if err != nil {
		return Config{}, err
	}
	var c Config
	at := doc.Decode("monitor", &c)
	c.Validate(at)
	return c, doc.Err()
}

const goodConfig = `monitor:
  listen: 198.51.100.60:9110
  targets:
    - {name: lun-east1, address: "203.0.113.201:24", probe: {interval: 200ms, timeout: 150ms, fail: 2, pass: 1}, labels: {kind: lun, site: east}}
    - {name: router, address: "2001:db8::1", probe: {type: icmp}}
    - {name: agent, address: 203.0.113.7, probe: {type: agent-check, port: 9707}}
    - {name: plain, address: "203.0.113.25:25"}
`

func TestConfig(t *testing.T) {
	c, err := decode(t, goodConfig)
	if err != nil {
		t.Fatal(err)
	}
	lun, router, agent, plain := c.Targets[0].probed(), c.Targets[1].probed(), c.Targets[2].probed(), c.Targets[3].probed()
	if c.Listen.String() != "198.51.100.60:9110" || lun.Addr.String() != "203.0.113.201:24" || lun.Config.Interval != 200*time.Millisecond {
		t.Errorf("read %v and %+v", c.Listen, lun)
	}
	if shown(router) != "2001:db8::1" || router.Config.Type != "icmp" || shown(agent) != "203.0.113.7:9707" {
		t.Errorf("read %+v and %+v", router, agent)
	}
	if plain.Config.Type != "tcp" || plain.Config.Interval != time.Second {
		t.Errorf("the default probe is %+v", plain.Config)
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, want string }{
		"no targets":   {goodConfig, "monitor:\n  targets: []\n", "node.yml:2: monitor.targets: no target; list"},
		"no name":      {"name: plain, ", "", "node.yml:7: monitor.targets[3].name: missing"},
		"same name":    {"name: plain", "name: agent", `monitor.targets[3].name: two targets are called "agent"`},
		"no address":   {", address: \"203.0.113.25:25\"", "", "monitor.targets[3].address: missing"},
		"address":      {"203.0.113.25:25", "mx.example.org", `monitor.targets[3].address: "mx.example.org" is not an address and port`},
		"any address":  {"203.0.113.25:25", "0.0.0.0:25", "monitor.targets[3].address: 0.0.0.0 is the address of no one target"},
		"no port":      {"203.0.113.25:25", "203.0.113.25", "monitor.targets[3].address: has no port, and a probe of type tcp needs one"},
		"two ports":    {"203.0.113.7,", "203.0.113.7:1,", "monitor.targets[2].probe.port: the address says port 1 already"},
		"probe":        {"type: icmp", "type: ping", "monitor.targets[1].probe.type: no probe is of type"},
		"probe time":   {"timeout: 150ms", "timeout: 300ms", "monitor.targets[0].probe.timeout: 300ms must be"},
		"label":        {"kind: lun", "Kind: lun", `monitor.targets[0].labels.Kind: "Kind" is no name of a label`},
		"own label":    {"kind: lun", "target: lun", "monitor.targets[0].labels.target: every target has a label of that name"},
		"unknown key":  {"labels: {", "lables: {", "monitor.targets[0].lables: unknown key"},
		"listen":       {"198.51.100.60:9110", "east", `node.yml:2: monitor.listen: "east" is not where to listen`},
		"label number": {"site: east", "0site: east", `monitor.targets[0].labels.0site: "0site" is no name`},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(goodConfig, tc.old, tc.new, 1)
			if text == goodConfig {
				t.Fatalf("%q is not there to be replaced", tc.old)
			}
			if _, err := decode(t, text); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("complaint is %v, want %q", err, tc.want)
			}
		})
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(goodConfig)
	f.Add("monitor: {targets: [{name: a, address: \"[::1]:1\", labels: {a: \"\\0\"}}]}")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := decode(t, text)
		if err != nil {
			return
		}
		m, err := New(Config{Targets: c.Targets}, Options{})
		if err != nil {
			return // a file that a probe names
		}
		if list := m.Targets(); len(list) != len(c.Targets) {
			t.Errorf("%d targets of %d", len(list), len(c.Targets))
		}
		if _, err := m.Registry.Gather(); err != nil {
			t.Errorf("metrics: %v", err)
		}
	})
}
