package gss

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/decide"
	"anycastle/internal/config"
)

const (
	maxAnswers   = 32 // of one group: all of their addresses of a family fit a UDP reply of 1232 bytes
	maxAddresses = 8  // of one answer
	maxLists     = 64 // of clients
)

func (c *Config) checkAnswers(at config.Cursor) {
	names := map[string]bool{}
	for i := range c.Answers {
		a, at := &c.Answers[i], at.Index(i)
		checkName(at, "answer", a.Name, names)
		if a.Weight < 1 || a.Weight > 1000 {
			at.Key("weight").Errorf("%d is not from 1 to 1000; 100 is the default", a.Weight)
		}
		if a.FailBack < 0 || a.FailBack > time.Hour {
			at.Key("fail_back").Errorf("%v is not from 0s to 1h; 10s suits most", a.FailBack)
		}
		if a.Target != "" {
			if _, err := hostname(a.Target); err != nil {
				at.Key("target").Errorf("%v", err)
			}
		}
		a.checkAddresses(at.Key("addresses"))
		if len(a.Probes) == 0 {
			at.Key("probes").Errorf("none, so that nobody would notice when it fails; give at least one, such as {type: tcp, port: 25}")
		}
		for j := range a.Probes {
			p, at := &a.Probes[j], at.Key("probes").Index(j)
			if p.Port == 0 && p.NeedsPort() {
				at.Key("port").Errorf("missing; an answer is an address alone, so say which port to probe, such as 25")
			}
			p.Validate(at)
		}
		c.checkTellers(a, at)
	}
}

func (a *Answer) checkAddresses(at config.Cursor) {
	if len(a.Addresses) == 0 || len(a.Addresses) > maxAddresses {
		at.Errorf("%d addresses; give from 1 to %d, such as [203.0.113.110]", len(a.Addresses), maxAddresses)
	}
	for i, addr := range a.Addresses {
		switch at := at.Index(i); {
		case !addr.IsValid():
			// the decoder has complained of it
		case addr.IsUnspecified() || addr.IsMulticast() || addr.Is4In6() || addr.Zone() != "":
			at.Errorf("%v is no address that a client can connect to; give the VIP's", addr)
		case slices.Contains(a.Addresses[:i], addr):
			at.Errorf("%v is listed twice; keep one", addr)
		}
	}
}

func (c *Config) checkGroups(at config.Cursor) {
	names := map[string]bool{}
	for i := range c.Groups {
		g, at := &c.Groups[i], at.Index(i)
		checkName(at, "answer group", g.Name, names)
		if len(g.Answers) == 0 || len(g.Answers) > maxAnswers {
			at.Key("answers").Errorf("%d answers; list from 1 to %d, the most wanted first", len(g.Answers), maxAnswers)
		}
		seen := map[netip.Addr]string{}
		for j, name := range g.Answers {
			at := at.Key("answers").Index(j)
			a := find(at, "answer", c.Answers, func(a *Answer) string { return a.Name }, name)
			if a == nil {
				continue
			}
			for _, addr := range a.Addresses {
				if other, ok := seen[addr]; ok {
					at.Errorf("%s has the address %v, and so has %s; keep one of them in the group", name, addr, other)
				}
				seen[addr] = name
			}
		}
	}
}

func (c *Config) checkSources(at config.Cursor) {
	if len(c.Sources) > maxLists {
		at.Errorf("%d lists; %d are the most", len(c.Sources), maxLists)
	}
	names := map[string]bool{}
	for i := range c.Sources {
		s, at := &c.Sources[i], at.Index(i)
		checkName(at, "list of sources", s.Name, names)
		if len(s.Prefixes) == 0 && s.MMDB == nil {
			at.Key("prefixes").Errorf("none; list networks such as 192.0.2.0/24, or take them out of a database with mmdb")
		}
		if s.MMDB != nil {
			s.MMDB.validate(at.Key("mmdb"))
		}
		for j, p := range s.Prefixes {
			switch at := at.Key("prefixes").Index(j); {
			case !p.IsValid():
				// the decoder has complained of it
			case p.Addr().Is4In6():
				at.Errorf("%v is an IPv4 network in IPv6 form; write it as IPv4", p)
			case p.Masked() != p:
				at.Errorf("%v has bits beyond its length; write %v", p, p.Masked())
			case slices.Contains(s.Prefixes[:j], p):
				at.Errorf("%v is listed twice; keep one", p)
			}
		}
	}
}

// checkRules reports what is wrong with rules in themselves; whether their names are in the zones is looked at where the zones
// are made.
func (c *Config) checkRules(at config.Cursor) {
	names := map[string]bool{}
	for i := range c.Rules {
		r, at := &c.Rules[i], at.Index(i)
		checkName(at, "rule", r.Name, names)
		if len(r.Domains) == 0 {
			at.Key("domains").Errorf("none; say which names it is for, such as [smtp.mail.example.org]")
		}
		if len(r.Clauses) == 0 || len(r.Clauses) > decide.MaxClauses {
			at.Key("clauses").Errorf("%d clauses; give from 1 to %d, the most wanted first", len(r.Clauses), decide.MaxClauses)
		}
		for j, name := range r.Sources {
			c.sources(at.Key("sources").Index(j), name)
		}
		for j := range r.Clauses {
			c.checkClause(&r.Clauses[j], at.Key("clauses").Index(j))
		}
		c.checkNear(r, at.Key("near"))
		c.checkTemplates(r, at.Key("records"))
	}
}

func (c *Config) sources(at config.Cursor, name string) *Sources {
	return find(at, "list of sources", c.Sources, func(s *Sources) string { return s.Name }, name)
}

func (c *Config) checkClause(cl *Clause, at config.Cursor) {
	find(at.Key("group"), "answer group", c.Groups, func(g *AnswerGroup) string { return g.Name }, cl.Group)
	if !slices.Contains(decide.Methods(), cl.Balance) {
		at.Key("balance").Errorf("no balance method is called %q; there are %q", cl.Balance, decide.Methods())
	}
	if cl.Count < 1 || cl.Count > maxAnswers {
		at.Key("count").Errorf("%d is not from 1 to %d; 1 is the default", cl.Count, maxAnswers)
	}
	wholeSeconds(at.Key("ttl"), cl.TTL)
	if cl.ShortTTL != 0 {
		wholeSeconds(at.Key("short_ttl"), cl.ShortTTL)
	}
	if cl.ShortTTL > cl.TTL {
		at.Key("short_ttl").Errorf("%v is longer than ttl, which is %v", cl.ShortTTL, cl.TTL)
	}
}

func wholeSeconds(at config.Cursor, ttl time.Duration) {
	if ttl < time.Second || ttl > maxTTL || ttl%time.Second != 0 {
		at.Errorf("%v is not from 1s to %v in whole seconds; 5s suits most", ttl, maxTTL)
	}
}

func (c *Config) checkNear(r *Rule, at config.Cursor) {
	uses := slices.ContainsFunc(r.Clauses, func(c Clause) bool { return c.Balance == decide.Nearest })
	if uses && len(r.Near) == 0 {
		at.Errorf("missing, and a clause balances by nearest; say which sites are near to whom, such as [{sources: branch, sites: [east]}]")
	}
	may := slices.ContainsFunc(r.Clauses, func(c Clause) bool {
		return !slices.Contains(decide.Methods(), c.Balance) // has been complained of
	})
	if !uses && !may && len(r.Near) > 0 {
		at.Errorf("no clause balances by nearest; remove this, or use it")
	}
	sites := c.sites()
	for i := range r.Near {
		n, at := &r.Near[i], at.Index(i)
		c.sources(at.Key("sources"), n.Sources)
		if len(n.Sites) == 0 {
			at.Key("sites").Errorf("none; list the nearest first")
		}
		for j, s := range n.Sites {
			if !slices.Contains(sites, s) {
				at.Key("sites").Index(j).Errorf("no answer is at a site %q%s", s, suggest(s, sites))
			}
		}
	}
}

// sites are all that answers are at.
func (c *Config) sites() (sites []string) {
	for i := range c.Answers {
		if s := c.Answers[i].site(); !slices.Contains(sites, s) {
			sites = append(sites, s)
		}
	}
	return sites
}

func (a *Answer) site() string {
	if a.Site != "" {
		return a.Site
	}
	return a.Name
}

// shortTTL is that of the clause, or its default.
func (c *Clause) shortTTL() time.Duration {
	if c.ShortTTL != 0 {
		return c.ShortTTL
	}
	return max(time.Second, (c.TTL / 2).Truncate(time.Second))
}

// decide gives what the engine is to know of a valid config.
func (c *Config) decide() decide.Config {
	d := decide.Config{Load: c.Load.decide(), Vote: decide.DefaultVote()}
	for _, a := range c.Answers {
		d.Answers = append(d.Answers, decide.Answer{Name: a.Name, Site: a.site(), Weight: a.Weight, FailBack: a.FailBack, Manual: a.Manual})
	}
	for _, g := range c.Groups {
		d.Groups = append(d.Groups, decide.Group{Name: g.Name, Answers: g.Answers})
	}
	for _, r := range c.Rules {
		rule := decide.Rule{Name: r.Name}
		near := [][]string{nil}
		for _, n := range r.Near {
			near = append(near, n.Sites)
		}
		for _, cl := range r.Clauses {
			next := decide.Clause{Group: cl.Group, Method: cl.Balance, Count: cl.Count, TTL: cl.TTL, ShortTTL: cl.shortTTL()}
			if cl.Balance == decide.Nearest {
				next.Near = near
			}
			rule.Clauses = append(rule.Clauses, next)
		}
		d.Rules = append(d.Rules, rule)
	}
	for i := range c.Rules { // after all that they are part of
		rules, groups := c.parts(&c.Rules[i], &d.Rules[i])
		d.Rules, d.Groups = append(d.Rules, rules...), append(d.Groups, groups...)
	}
	return d
}

// families are the types of records that an answer may have no address for.
func families() []uint16 { return []uint16{dns.TypeA, dns.TypeAAAA} }

// has says whether the answer has an address of a family.
func (a *Answer) has(family uint16) bool {
	return slices.ContainsFunc(a.Addresses, func(addr netip.Addr) bool { return addr.Is4() == (family == dns.TypeA) })
}

// with are the answers of a rule that have an address of a family.
func (c *Config) with(r *Rule, family uint16) (names []string) {
	for _, a := range c.answersOf(r) {
		if a.has(family) {
			names = append(names, a.Name)
		}
	}
	return names
}

// partName is what the part of a rule, or of an answer group, for a family is called. No rule or group can be called so.
func partName(name string, family uint16) string { return name + "/" + dns.TypeToString[family] }

// ruleOf gives the rule that a rule of a decision is, or is part of.
func (c *Config) ruleOf(decided string) *Rule {
	name, _, _ := strings.Cut(decided, "/")
	return &c.Rules[slices.IndexFunc(c.Rules, func(r Rule) bool { return r.Name == name })]
}

// parts gives the rules, and their groups, by which clients get addresses of a family where not all answers of a rule have some.
func (c *Config) parts(r *Rule, whole *decide.Rule) (rules []decide.Rule, groups []decide.Group) {
	for _, f := range families() {
		names := c.with(r, f)
		if !slices.Contains(r.types(), f) || len(names) == 0 || len(names) == len(c.answersOf(r)) {
			continue
		}
		part := decide.Rule{Name: partName(r.Name, f), PartOf: r.Name}
		for _, cl := range whole.Clauses {
			g := find(config.Cursor{}, "answer group", c.Groups, func(g *AnswerGroup) string { return g.Name }, cl.Group)
			cl.Group = partName(cl.Group, f)
			some := decide.Group{Name: cl.Group}
			for _, name := range g.Answers {
				if slices.Contains(names, name) {
					some.Answers = append(some.Answers, name)
				}
			}
			part.Clauses, groups = append(part.Clauses, cl), append(groups, some)
		}
		rules = append(rules, part)
	}
	return rules, groups
}

// answersOf are all that a rule may be answered with.
func (c *Config) answersOf(r *Rule) (list []*Answer) {
	for _, cl := range r.Clauses {
		for i := range c.Groups {
			if c.Groups[i].Name != cl.Group {
				continue
			}
			for j := range c.Answers {
				if a := &c.Answers[j]; slices.Contains(c.Groups[i].Answers, a.Name) && !slices.Contains(list, a) {
					list = append(list, a)
				}
			}
		}
	}
	return list
}

// types are the types of records that a rule answers with.
func (r *Rule) types() []uint16 {
	if len(r.Records) == 0 {
		return []uint16{dns.TypeA, dns.TypeAAAA}
	}
	var types []uint16
	for name := range r.Records {
		if t, known := dns.StringToType[name]; known && !slices.Contains(notForRules, t) { // what is not has been complained of
			types = append(types, t)
		}
	}
	slices.Sort(types)
	return types
}
