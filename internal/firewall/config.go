package firewall

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"anycastle/internal/config"
)

// Config is the key `firewall` of a node's `net` section.
type Config struct {
	Zones map[string][]string `yaml:"zones"` // interfaces by the zone they are in, each in one; required
	Allow []Rule              `yaml:"allow"` // what is passed on; default none: nothing is
}

// Rule lets packets pass from zones to zones, and their answers back.
type Rule struct {
	From         []string       `yaml:"from"`          // zones; required
	To           []string       `yaml:"to"`            // zones; required
	FromPrefixes []netip.Prefix `yaml:"from_prefixes"` // source addresses; default: any
	ToPrefixes   []netip.Prefix `yaml:"to_prefixes"`   // destination addresses; default: any
	Proto        Proto          `yaml:"proto"`         // tcp, udp, icmp (echo), ipip, gue or any; required
	Ports        []Ports        `yaml:"ports"`         // destination ports such as 25 or 1000-1999, with tcp and udp; default: all
}

// Proto is a kind of packet.
type Proto string

// The kinds of packets. The tunnels of our balancers, IPIP and GUE, go one way, and so does any: their answers need a
// rule of their own.
const (
	TCP  Proto = "tcp"
	UDP  Proto = "udp"
	ICMP Proto = "icmp" // echo, and its reply back
	IPIP Proto = "ipip" // IP in IP, either version in either
	GUE  Proto = "gue"  // UDP port 6080
	Any  Proto = "any"  // whatever it is
)

var protos = []Proto{TCP, UDP, ICMP, IPIP, GUE, Any}

// Ports is a range of ports, both ends in it.
type Ports struct{ First, Last uint16 }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Ports) UnmarshalText(text []byte) error {
	first, last, ranged := strings.Cut(string(text), "-")
	if !ranged {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return err
	}
	b, err := strconv.ParseUint(last, 10, 16)
	if err != nil {
		return err
	}
	if a == 0 || b < a {
		return fmt.Errorf("%s is no range of ports", text)
	}
	*p = Ports{uint16(a), uint16(b)}
	return nil
}

// Kind words what Ports looks like, for complaints.
func (Ports) Kind() string { return "a port such as 25, or a range such as 1000-1999" }

func (p Ports) String() string {
	if p.First == p.Last {
		return fmt.Sprint(p.First)
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

var zonePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,14}$`)

// Validate reports everything that is wrong with the key. interfaces are those that the node sets up.
func (c *Config) Validate(at config.Cursor, interfaces []string) {
	if len(c.Zones) == 0 {
		at.Key("zones").Errorf("missing; name the zones and the interfaces in each, such as {outside: [eth1], front: [eth2]}")
	}
	in := map[string]string{}
	for _, zone := range slices.Sorted(maps.Keys(c.Zones)) {
		at := at.Key("zones").Key(zone)
		if !zonePattern.MatchString(zone) {
			at.Errorf("%q is no name of a zone; use up to 15 small letters, digits and dashes, a letter first", zone)
		}
		if len(c.Zones[zone]) == 0 {
			at.Errorf("no interfaces; name at least one, or leave the zone out")
		}
		for i, name := range c.Zones[zone] {
			at := at.Index(i)
			if !slices.Contains(interfaces, name) {
				at.Errorf("%s is not under net.interfaces; name an interface of this node", name)
			} else if other, ok := in[name]; ok {
				at.Errorf("%s is in zone %s already; an interface is in one zone", name, other)
			}
			in[name] = zone
		}
	}
	for _, name := range interfaces {
		if in[name] == "" && len(c.Zones) > 0 {
			at.Key("zones").Errorf("interface %s is in no zone, so that nothing would pass by it; put it in one", name)
		}
	}
	for i := range c.Allow {
		c.validateRule(at.Key("allow").Index(i), &c.Allow[i])
	}
}

func (c *Config) validateRule(at config.Cursor, r *Rule) {
	c.validateZones(at.Key("from"), r.From)
	c.validateZones(at.Key("to"), r.To)
	validatePrefixes(at.Key("from_prefixes"), r.FromPrefixes)
	validatePrefixes(at.Key("to_prefixes"), r.ToPrefixes)
	if len(r.families()) == 0 {
		at.Key("to_prefixes").Errorf("from_prefixes and to_prefixes have no IP version in common, so that no packet fits; use one version in both")
	}
	switch {
	case r.Proto == "":
		at.Key("proto").Errorf("missing; there are %q", protos)
	case !slices.Contains(protos, r.Proto):
		at.Key("proto").Errorf("%q is no kind of packet; there are %q", r.Proto, protos)
	case len(r.Ports) > 0 && r.Proto != TCP && r.Proto != UDP:
		at.Key("ports").Errorf("only tcp and udp have ports to choose; leave them out")
	}
}

func (c *Config) validateZones(at config.Cursor, zones []string) {
	if len(zones) == 0 {
		at.Errorf("missing; name at least one zone")
	}
	for i, zone := range zones {
		if _, ok := c.Zones[zone]; ok {
			if slices.Contains(zones[:i], zone) {
				at.Index(i).Errorf("%s is given twice; keep one", zone)
			}
			continue
		}
		if near := config.Nearest(zone, slices.Sorted(maps.Keys(c.Zones))); near != "" {
			at.Index(i).Errorf("there is no zone %q; did you mean %q?", zone, near)
		} else {
			at.Index(i).Errorf("there is no zone %q; add it under `zones`", zone)
		}
	}
}

func validatePrefixes(at config.Cursor, list []netip.Prefix) {
	for i, p := range list {
		switch at := at.Index(i); {
		case !p.IsValid():
			at.Errorf("no prefix; write one such as 203.0.113.25/32")
		case p.Addr().Is4In6():
			at.Errorf("%v is an IPv4 prefix in IPv6 form; write it as IPv4", p)
		case p != p.Masked():
			at.Errorf("%v has bits set beyond its length; write %v", p, p.Masked())
		}
	}
}

// families lists the IP versions that a packet of the rule can have.
func (r Rule) families() []int {
	return slices.DeleteFunc([]int{4, 6}, func(version int) bool {
		for _, list := range [][]netip.Prefix{r.FromPrefixes, r.ToPrefixes} {
			if len(list) > 0 && len(ofVersion(list, version)) == 0 {
				return true
			}
		}
		return false
	})
}

func ofVersion(list []netip.Prefix, version int) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return p.Addr().Is4() != (version == 4) })
}

// String words the rule in the order of a packet's way.
func (r Rule) String() string {
	text := []string{string(r.Proto)}
	if len(r.Ports) > 0 {
		text = append(text, list(r.Ports))
	}
	text = append(text, "from", list(r.From))
	if len(r.FromPrefixes) > 0 {
		text = append(text, list(r.FromPrefixes))
	}
	text = append(text, "to", list(r.To))
	if len(r.ToPrefixes) > 0 {
		text = append(text, list(r.ToPrefixes))
	}
	return strings.Join(text, " ")
}

func list[T any](items []T) string {
	var s []string
	for _, item := range items {
		s = append(s, fmt.Sprint(item))
	}
	return strings.Join(s, ",")
}
