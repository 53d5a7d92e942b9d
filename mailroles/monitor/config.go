package monitor

import (
	"cmp"
	"maps"
	"net/netip"
	"regexp"
	"slices"

	"anycastle/internal/config"
	"anycastle/internal/probe"
)

// Config is the `monitor:` section of `mail:` in a node file.
type Config struct {
	// Listen is where metrics, health and targets are served over mutual TLS; default: nowhere but on the socket.
	Listen  *config.ListenAddr `yaml:"listen"`
	Targets []Target           `yaml:"targets"` // what is watched
}

// Target is one thing to watch.
type Target struct {
	Name    string            `yaml:"name"`    // unique
	Address Address           `yaml:"address"` // with the port, unless the probe needs none or names it
	Probe   *probe.Config     `yaml:"probe"`   // default: tcp each second
	Labels  map[string]string `yaml:"labels"`  // go with its metrics, such as kind: lun
}

// Address is an address with or without a port.
type Address struct{ netip.AddrPort }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Address) UnmarshalText(text []byte) error {
	if addr, err := netip.ParseAddr(string(text)); err == nil {
		a.AddrPort = netip.AddrPortFrom(addr, 0)
		return nil
	}
	return a.AddrPort.UnmarshalText(text)
}

// Kind says what a value looks like, for complaints.
func (a *Address) Kind() string {
	return "an address and port such as 203.0.113.10:25 or [2001:db8::1]:25, or an address alone"
}

// maxTargets bounds what one process watches.
const maxTargets = 10_000

// labelName is what Prometheus takes as the name of a label, but for capitals.
var labelName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// ownLabels are those that every metric of a target has.
var ownLabels = []string{"target", "address", "probe"}

// Validate reports what is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	at = at.Key("targets")
	if len(c.Targets) == 0 {
		at.Errorf("no target; list at least one, with name and address")
	}
	if len(c.Targets) > maxTargets {
		at.Errorf("%d targets are too many for one monitor; at most %d, so share them among several", len(c.Targets), maxTargets)
	}
	seen := map[string]bool{}
	for i := range c.Targets {
		t, at := &c.Targets[i], at.Index(i)
		if t.Name == "" {
			at.Key("name").Errorf("missing; give the target a name such as lun-east")
		} else if seen[t.Name] {
			at.Key("name").Errorf("two targets are called %q; rename one", t.Name)
		}
		seen[t.Name] = true
		t.validate(at)
	}
}

func (t *Target) validate(at config.Cursor) {
	p := t.asks()
	p.Validate(at.Key("probe"))
	addr := t.Address.Addr()
	switch {
	case !addr.IsValid():
		at.Key("address").Errorf("missing; write what is to be probed, such as 203.0.113.25:25")
	case addr.IsUnspecified() || addr.IsMulticast():
		at.Key("address").Errorf("%v is the address of no one target; write that of one", addr)
	case t.Address.Port() != 0 && p.Port != 0:
		at.Key("probe").Key("port").Errorf("the address says port %d already; remove one of the two", t.Address.Port())
	case p.NeedsPort() && t.port() == 0:
		at.Key("address").Errorf("has no port, and a probe of type %s needs one; write it such as 203.0.113.25:25", p.Type)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Labels)) {
		at := at.Key("labels").Key(name)
		if !labelName.MatchString(name) {
			at.Errorf("%q is no name of a label; use small letters, digits and underscores, a letter first", name)
		} else if slices.Contains(ownLabels, name) {
			at.Errorf("every target has a label of that name already; use another")
		}
	}
}

// asks gives the target's probe.
func (t *Target) asks() *probe.Config {
	if t.Probe != nil {
		return t.Probe
	}
	p := &probe.Config{}
	p.SetDefaults()
	return p
}

func (t *Target) port() uint16 { return cmp.Or(t.Address.Port(), t.asks().Port) }

// probed gives the target as a Runner takes it.
func (t *Target) probed() probe.Target {
	return probe.Target{Name: t.Name, Addr: netip.AddrPortFrom(t.Address.Addr(), t.port()), Config: t.asks()}
}
