package pod

import (
	"fmt"
	"regexp"
	"slices"

	"anycastle/internal/config"
)

// Most of what a plan may ask for: the documentation prefixes hold no more, and a machine no more nodes.
const (
	MostPods  = 3
	MostSites = 3
	mostEnds  = 3 // front ends of each kind, or stores, of a pod at a site
	mostUsers = 500
)

// Plan is what a lab is rendered from.
type Plan struct {
	Name      string   `yaml:"name"`       // of the lab; required
	Domain    string   `yaml:"domain"`     // of pod 1's mailboxes; pod 2 has pod2.DOMAIN, and so on; default example.org
	Sites     []string `yaml:"sites"`      // names; default [east, west]
	Pods      int      `yaml:"pods"`       // default 1
	FrontEnds int      `yaml:"front_ends"` // of each kind, of a pod at a site; default 2
	Stores    int      `yaml:"stores"`     // active stores of a pod at a site, each with a LUN; default 2
	Users     int      `yaml:"users"`      // mailboxes of a pod; default 8
	Seed      string   `yaml:"seed"`       // keys and salts follow from it, for labs that must come out the same; default random
}

// DefaultPlan is what a plan that says nothing means, but for its name.
func DefaultPlan() Plan {
	return Plan{Domain: "example.org", Sites: []string{"east", "west"}, Pods: 1, FrontEnds: 2, Stores: 2, Users: 8}
}

// SetDefaults implements config.Defaulter.
func (p *Plan) SetDefaults() { *p = DefaultPlan() }

var (
	siteForm   = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)
	nameForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	domainForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\.){1,5}[a-z][a-z0-9]{1,15}$`)
)

// reserved are names of groups and of nodes that are at no site.
var reserved = []string{outside, client, resolver, witness, "ispa", "ispb"}

// Validate reports everything that is wrong with a plan.
func (p *Plan) Validate(at config.Cursor) {
	if !nameForm.MatchString(p.Name) {
		at.Key("name").Errorf("%q is no name of a lab; use up to 32 small letters, digits and dashes, such as my-lab", p.Name)
	}
	if !domainForm.MatchString(p.Domain) {
		at.Key("domain").Errorf("%q is no domain in lower case; write one such as example.org", p.Domain)
	}
	if len(p.Sites) < 1 || len(p.Sites) > MostSites {
		at.Key("sites").Errorf("%d sites; name 1 to %d", len(p.Sites), MostSites)
	}
	for i, s := range p.Sites {
		at := at.Key("sites").Index(i)
		switch {
		case !siteForm.MatchString(s):
			at.Errorf("%q is no name of a site; use up to 12 small letters and digits, a letter first", s)
		case slices.Contains(reserved, s):
			at.Errorf("%q is the name of something else in the lab; use another", s)
		case slices.Contains(p.Sites[:i], s):
			at.Errorf("%q is there twice; give each site its own name", s)
		}
	}
	for _, n := range []struct {
		key      string
		is, most int
	}{{"pods", p.Pods, MostPods}, {"front_ends", p.FrontEnds, mostEnds}, {"stores", p.Stores, mostEnds}, {"users", p.Users, mostUsers}} {
		if n.is < 1 || n.is > n.most {
			at.Key(n.key).Errorf("%d is out of range; use 1 to %d", n.is, n.most)
		}
	}
}

// Check gives what is wrong with a plan that no file has.
func (p *Plan) Check() error { return config.Check("plan", p.Validate) }

// Parse reads a plan: its text is a mapping with the one key `lab`. name stands for the file in complaints.
func Parse(name string, text []byte) (Plan, error) {
	var p Plan
	doc, err := config.Parse(name, text)
	if err != nil {
		return p, err
	}
	doc.KnownSections("lab")
	if !doc.Has("lab") {
		return p, config.Problem{File: name, Line: 1, Text: "no section lab; write lab: {name: my-lab}"}
	}
	at := doc.Decode("lab", &p)
	if doc.Err() == nil {
		p.Validate(at)
	}
	return p, doc.Err()
}

// SiteNames gives n names of sites, for who has none.
func SiteNames(n int) []string {
	names := []string{"east", "west", "north"}
	for len(names) < n {
		names = append(names, fmt.Sprintf("site%d", len(names)+1)) // too many, as Validate will say
	}
	return names[:max(n, 0)]
}

// File is the plan as a file that Parse reads.
func (p Plan) File() string {
	text := fmt.Sprintf("# What this folder was made of: `anycastle lab new pod.yml --dir OTHER` makes the like.\nlab:\n  name: %s\n  domain: %s\n"+
		"  sites: [%s]\n  pods: %d\n  front_ends: %d\n  stores: %d\n  users: %d\n",
		p.Name, p.Domain, list(p.Sites, func(s string) string { return s }), p.Pods, p.FrontEnds, p.Stores, p.Users)
	if p.Seed != "" {
		text += fmt.Sprintf("  seed: %q\n", p.Seed)
	}
	return text
}
