package gss

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/probe"
)

// Ordered is the balance method that answers with the first answer whose probe passes.
const Ordered = "ordered"

const (
	maxTTL     = time.Hour // a longer one makes every failover last that long
	maxAnswers = 32        // of one group: all of them fit a UDP reply of 1232 bytes
)

// Config is the `gss:` section of a node file.
type Config struct {
	Listen  []netip.AddrPort `yaml:"listen"`        // UDP and TCP on each; addresses of this node, never the wildcard
	Zone    Zone             `yaml:"zone"`          // the zone that this node is authoritative for
	Answers []Answer         `yaml:"answers"`       // the sites' VIPs
	Groups  []AnswerGroup    `yaml:"answer_groups"` // which answers stand for each other
	Rules   []Rule           `yaml:"rules"`         // which names are answered from which group
}

// Zone is the zone and its plain records.
type Zone struct {
	Name    string        `yaml:"name"`    // such as mail.example.org
	TTL     time.Duration `yaml:"ttl"`     // of rule answers, of negative answers and of records without their own; default 5s, 1s to 1h
	Primary string        `yaml:"primary"` // SOA MNAME
	Contact string        `yaml:"contact"` // SOA RNAME: the mailbox hostmaster@example.org is written hostmaster.example.org
	Serial  uint32        `yaml:"serial"`  // SOA SERIAL; default 1
	Records string        `yaml:"records"` // RFC 1035 section 5 master-file lines, relative to the zone
}

// Answer is one address that a name may be answered with.
type Answer struct {
	Name    string       `yaml:"name"`
	Address netip.Addr   `yaml:"address"` // IPv4
	Probe   probe.Config `yaml:"probe"`   // of Address; a type that needs a port must be given one
}

// AnswerGroup is a set of answers and the way to choose among them.
type AnswerGroup struct {
	Name    string   `yaml:"name"`
	Balance string   `yaml:"balance"` // default ordered
	Answers []string `yaml:"answers"` // names of answers, the most wanted first
}

// Rule is a DNS rule: A queries for Name are answered from Group.
type Rule struct {
	Name  string `yaml:"name"`
	Group string `yaml:"group"`
}

// SetDefaults implements config.Defaulter.
func (z *Zone) SetDefaults() { *z = Zone{TTL: 5 * time.Second, Serial: 1} }

// SetDefaults implements config.Defaulter.
func (g *AnswerGroup) SetDefaults() { *g = AnswerGroup{Balance: Ordered} }

// Validate reports what is wrong with the section.
func (c *Config) Validate(at config.Cursor) { c.compile(at) }

// compile is Validate, and gives the zone that the section describes. The zone is fit for use only when there was no
// complaint.
func (c *Config) compile(at config.Cursor) *zone {
	c.checkListen(at.Key("listen"))
	c.checkAnswers(at.Key("answers"))
	c.checkGroups(at.Key("answer_groups"))
	z := newZone(&c.Zone, at.Key("zone"))
	if z == nil {
		return nil
	}
	z.addRecords(c.Zone.Records, at.Key("zone").Key("records"))
	c.addRules(z, at.Key("rules"))
	z.checkReferences(at.Key("zone"))
	return z
}

func (c *Config) checkListen(at config.Cursor) {
	if len(c.Listen) == 0 {
		at.Errorf("no address to answer on; give at least one, such as [198.51.100.7:53]")
	}
	for i, a := range c.Listen {
		at := at.Index(i)
		switch {
		case !a.IsValid():
			// the decoder has complained of it
		case a.Addr().IsUnspecified() || a.Addr().IsMulticast():
			at.Errorf("%v is no address of this node; name each one, so that a reply leaves from the address that was asked", a.Addr())
		case a.Port() == 0:
			at.Errorf("port 0 is none; use 53")
		case slices.Contains(c.Listen[:i], a):
			at.Errorf("%v is listed twice; keep one", a)
		}
	}
}

func (c *Config) checkAnswers(at config.Cursor) {
	if len(c.Answers) == 0 {
		at.Errorf("no answers; list the VIPs of the sites with a name, an address and a probe each")
	}
	names := map[string]bool{}
	for i := range c.Answers {
		a, at := &c.Answers[i], at.Index(i)
		checkName(at, "answer", a.Name, names)
		switch {
		case !a.Address.IsValid():
			at.Key("address").Errorf("missing or no address; give an IPv4 address such as 203.0.113.110")
		case !a.Address.Is4():
			at.Key("address").Errorf("%v is IPv6, which rules do not answer with in this version; give the VIP's IPv4 address", a.Address)
		case a.Address.IsUnspecified() || a.Address.IsMulticast():
			at.Key("address").Errorf("%v is no address that a client can connect to; give the VIP's", a.Address)
		}
		if a.Probe.Port == 0 && a.Probe.NeedsPort() {
			at.Key("probe").Key("port").Errorf("missing; an answer is an address alone, so say which port to probe, such as 25")
		}
		a.Probe.Validate(at.Key("probe"))
	}
}

func (c *Config) checkGroups(at config.Cursor) {
	names := map[string]bool{}
	for i := range c.Groups {
		g, at := &c.Groups[i], at.Index(i)
		checkName(at, "answer group", g.Name, names)
		if g.Balance != Ordered {
			at.Key("balance").Errorf("no balance method is called %q; use %s", g.Balance, Ordered)
		}
		if len(g.Answers) == 0 || len(g.Answers) > maxAnswers {
			at.Key("answers").Errorf("%d answers; list from 1 to %d, the most wanted first", len(g.Answers), maxAnswers)
		}
		c.checkMembers(g, at.Key("answers"))
	}
}

func (c *Config) checkMembers(g *AnswerGroup, at config.Cursor) {
	seen := map[netip.Addr]string{}
	for i, name := range g.Answers {
		a := c.answer(name)
		if a == nil {
			at.Index(i).Errorf("no answer is called %q%s", name, suggest(name, c.answerNames()))
			continue
		}
		if other, ok := seen[a.Address]; ok {
			at.Index(i).Errorf("%s has the address %v, and so has %s; keep one of them in the group", name, a.Address, other)
		}
		seen[a.Address] = name
	}
}

// addRules puts the rules' names into the zone.
func (c *Config) addRules(z *zone, at config.Cursor) {
	if len(c.Rules) == 0 {
		at.Errorf("no rules; say which name is answered from which answer group")
	}
	for i, r := range c.Rules {
		at := at.Index(i)
		if c.group(r.Group) == nil {
			at.Key("group").Errorf("no answer group is called %q%s", r.Group, suggest(r.Group, c.groupNames()))
		}
		name, err := hostname(r.Name)
		if err != nil {
			at.Key("name").Errorf("%v", err)
			continue
		}
		z.addRule(name, r.Group, at.Key("name"))
	}
}

func (c *Config) answer(name string) *Answer {
	if i := slices.IndexFunc(c.Answers, func(a Answer) bool { return a.Name == name }); i >= 0 {
		return &c.Answers[i]
	}
	return nil
}

func (c *Config) group(name string) *AnswerGroup {
	if i := slices.IndexFunc(c.Groups, func(g AnswerGroup) bool { return g.Name == name }); i >= 0 {
		return &c.Groups[i]
	}
	return nil
}

func (c *Config) answerNames() []string {
	var names []string
	for _, a := range c.Answers {
		names = append(names, a.Name)
	}
	return names
}

func (c *Config) groupNames() []string {
	var names []string
	for _, g := range c.Groups {
		names = append(names, g.Name)
	}
	return names
}

var objectName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// checkName reports a name that is bad or taken, and takes it.
func checkName(at config.Cursor, what, name string, taken map[string]bool) {
	switch {
	case name == "":
		at.Key("name").Errorf("missing; give the %s a name", what)
	case !objectName.MatchString(name):
		at.Key("name").Errorf("%q is no name; use up to 63 letters, digits, dots, dashes and underscores, a letter or digit first", name)
	case taken[name]:
		at.Key("name").Errorf("another %s is called %q; rename one", what, name)
	}
	taken[name] = true
}

// suggest ends a complaint about a dangling reference.
func suggest(name string, known []string) string {
	if near := config.Nearest(name, known); near != "" {
		return "; did you mean " + near + "?"
	}
	if len(known) == 0 {
		return "; there is none yet, so define it"
	}
	return "; known here: " + strings.Join(known, ", ")
}
