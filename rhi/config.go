package rhi

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/mesh"
	"anycastle/rhi/decide"
)

const (
	defaultHold = 9 * time.Second
	minHold     = 3 * time.Second     // RFC 4271 4.2: zero or at least three seconds; zero would never notice a silent death
	maxHold     = 65535 * time.Second // the field has two octets
	maxPrepend  = 10
	asTrans     = 23456 // RFC 6793: stands for a four-octet AS number, is nobody's own
)

// Config is the `rhi:` section of a node file.
type Config struct {
	ASN       uint32           `yaml:"asn"`       // own AS number; required
	RouterID  netip.Addr       `yaml:"router_id"` // BGP identifier, an IPv4 address unique among the peers; required
	Hold      time.Duration    `yaml:"hold"`      // silence after which a peer is given up; whole seconds, at least 3s; default 9s. Keepalives go out three times as often.
	Neighbors []Neighbor       `yaml:"neighbors"` // at least one, or a dynamic one
	Dynamic   []Dynamic        `yaml:"dynamic"`   // peers that dial from ranges of addresses; default none
	Announce  []netip.Prefix   `yaml:"announce"`  // own routes that are announced whatever health says; default none
	Groups    map[string]Group `yaml:"groups"`    // ladders of the groups that peers are in; default none, which leaves announced and withdrawn
	Site      string           `yaml:"site"`      // the data centre, as `drain site` calls it; default the node's name in the mesh
	Role      decide.Role      `yaml:"role"`      // primary: traffic comes here while it can; backup: when no primary takes it; default primary
	Gates     Gates            `yaml:"gates"`     // when VIPs are announced
	Mesh      *mesh.Config     `yaml:"mesh"`      // the balancers of all sites that announce the same VIPs, which ask each other before they withdraw; default none
	StateDir  string           `yaml:"state_dir"` // where orders and decisions survive a restart; default /var/lib/anycastle/rhi
	Router    *Router          `yaml:"router"`    // presence makes the node a router; absent: learned routes are looked at and go nowhere
}

// Router says what a node that routes for others passes on.
type Router struct {
	Pass   []netip.Prefix `yaml:"pass"`   // learned routes inside one of these (equal or longer) are passed on, nothing else; default none
	Source netip.Addr     `yaml:"source"` // address of this node that its own packets take on learned IPv4 routes; default the kernel's choice
	Settle time.Duration  `yaml:"settle"` // nothing is passed on for so long after the start, or until all neighbors have come; 0 to 1m; default 3s
	Leave  time.Duration  `yaml:"leave"`  // for so long before the end all is told to neighbors with the own AS once more in the path; 0 to 1m; default 1s
}

// mostStage bounds what a router waits at its start and its end.
const mostStage = time.Minute

// SetDefaults implements config.Defaulter.
func (r *Router) SetDefaults() { r.Settle, r.Leave = 3*time.Second, time.Second }

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() {
	c.Hold, c.Role, c.StateDir = defaultHold, decide.Primary, "/var/lib/anycastle/rhi"
}

// Validate reports everything that is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	checkASN(at.Key("asn"), c.ASN)
	switch {
	case !c.RouterID.IsValid():
		at.Key("router_id").Errorf("missing; give the node an identifier of its own, such as its loopback address 198.51.100.3")
	case !c.RouterID.Is4() || c.RouterID.IsUnspecified():
		at.Key("router_id").Errorf("%v is no BGP identifier; use an IPv4 address other than 0.0.0.0", c.RouterID)
	}
	switch {
	case c.Hold < minHold || c.Hold > maxHold:
		at.Key("hold").Errorf("%v is out of range; use 3s to 65535s", c.Hold)
	case c.Hold%time.Second != 0:
		at.Key("hold").Errorf("%v is not a whole number of seconds, which is all that BGP can say; use %v", c.Hold, c.Hold.Round(time.Second))
	}
	c.validateNeighbors(at)
	c.validateGroups(at)
	c.validateGates(at)
	validatePrefixes(at.Key("announce"), c.Announce, c.refuse)
	if c.Router != nil {
		validatePrefixes(at.Key("router").Key("pass"), c.Router.Pass, func(netip.Prefix) string { return "" })
		if a := c.Router.Source; a.IsValid() && (!a.Is4() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback()) {
			at.Key("router").Key("source").Errorf("%v is no IPv4 address of this node that others reach", a)
		}
		validateStage(at.Key("router").Key("settle"), c.Router.Settle)
		validateStage(at.Key("router").Key("leave"), c.Router.Leave)
	}
}

func validateStage(at config.Cursor, d time.Duration) {
	if d < 0 || d > mostStage {
		at.Errorf("%v is out of range; use 0s to 1m", d)
	}
}

func checkASN(at config.Cursor, asn uint32) {
	switch asn {
	case 0:
		at.Errorf("missing; give an AS number, such as one of 64512 to 65534 for private use")
	case asTrans:
		at.Errorf("%d is reserved (AS_TRANS); use another AS number", asn)
	}
}

// refuse says why no neighbor can be told of a prefix; empty: one can.
func (c *Config) refuse(p netip.Prefix) string {
	family := routeFamily(p.Addr())
	for _, p := range c.audience() {
		if slices.Contains(p.families(), family) {
			return ""
		}
	}
	return fmt.Sprintf("no rhi neighbor takes %s routes; add the family to one's families, or a neighbor", family)
}

// validatePrefixes takes prefixes that nothing is said against, each once and without host bits.
func validatePrefixes(at config.Cursor, prefixes []netip.Prefix, refuse func(netip.Prefix) string) {
	seen := map[netip.Prefix]bool{}
	for i, p := range prefixes {
		at := at.Index(i)
		switch {
		case !p.IsValid():
			at.Errorf("no prefix; write one such as 203.0.113.0/24")
		case p.Addr().Is4In6():
			at.Errorf("%v is an IPv4 prefix in IPv6 form; write it as IPv4", p)
		case refuse(p) != "":
			at.Errorf("%v: %s", p, refuse(p))
		case p != p.Masked():
			at.Errorf("%v has bits set beyond its length; write %v", p, p.Masked())
		case seen[p]:
			at.Errorf("%v is given twice; keep one", p)
		}
		seen[p] = true
	}
}
