package gss

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"anycastle/gss/decide"
	"anycastle/gss/message"
	"anycastle/gss/zone"
)

// Question is what `explain name` asks.
type Question struct {
	Name string     `json:"name"`
	Type string     `json:"type"`
	From netip.Addr `json:"from"` // the client, or its network's address
}

// Explanation says why a client is answered so at this moment.
type Explanation struct {
	Question
	Zone       *ExplainedZone  `json:"zone,omitempty"` // missing: none of ours has the name
	Lists      []string        `json:"lists"`          // of clients that have this one
	Rules      []ExplainedRule `json:"rules"`          // for the name and type, in order: those that are for others, and the one that counts
	Why        string          `json:"why,omitempty"`  // no rule counts
	Generation uint64          `json:"generation"`
	Scope      netip.Prefix    `json:"scope,omitzero"` // the network that the answer is for (RFC 7871); missing: for all
	Reply      ExplainedReply  `json:"reply"`
}

// ExplainedZone is the zone that answers.
type ExplainedZone struct {
	Name   string `json:"name"`
	Serial uint32 `json:"serial"`
	Absent bool   `json:"absent,omitempty"` // a secondary of which nothing was transferred yet, or that has expired; it has no serial
}

// ExplainedRule is a rule for the name and type.
type ExplainedRule struct {
	Rule     string            `json:"rule"`
	Name     string            `json:"name"` // that it answers for: where aliases lead, or one whose addresses come along
	Type     string            `json:"type"`
	Counts   bool              `json:"counts"` // the rest is of the rule that does
	Sources  []string          `json:"sources,omitempty"`
	Clause   int               `json:"clause,omitempty"` // from 1
	Basis    decide.Basis      `json:"basis,omitempty"`
	Balance  decide.Method     `json:"balance,omitempty"`
	Family   string            `json:"family,omitempty"`    // A or AAAA: only answers that have such records count
	OfFamily []string          `json:"of_family,omitempty"` // these answers
	Near     string            `json:"near,omitempty"`      // list of the clients that the choice is for
	Why      string            `json:"why,omitempty"`
	Choices  []ExplainedChoice `json:"choices,omitempty"`
	TTL      uint32            `json:"ttl_seconds,omitempty"`
	Empty    string            `json:"empty,omitempty"` // why the choice gives no record of the type
}

// ExplainedChoice is what a share of clients is answered with.
type ExplainedChoice struct {
	Answers []ExplainedAnswer `json:"answers"`
	Of1000  int               `json:"of_1000"`
	This    bool              `json:"this"` // this client is of them; where clients are told apart by chance or in turn, it may be
}

// ExplainedAnswer is an answer, and where it stands.
type ExplainedAnswer struct {
	Answer   string       `json:"answer"`
	Place    decide.Place `json:"place"`
	Why      string       `json:"why"`
	Headroom *float64     `json:"headroom,omitempty"` // of its capacity, 0 to 1; missing when no balancer says
}

// ExplainedReply is what the client gets.
type ExplainedReply struct {
	Rcode         string           `json:"rcode"`
	Authoritative bool             `json:"authoritative"`
	Records       []string         `json:"records"`
	Errors        []ExplainedError `json:"errors"` // RFC 8914
}

// ExplainedError is an extended error.
type ExplainedError struct {
	Code uint16 `json:"code"`
	Name string `json:"name"`
	Text string `json:"text,omitempty"`
}

// Explain says why a client is answered so at this moment. Where a balance method gives clients in turn or by chance, the answer is
// one of those that are possible.
func (g *GSS) Explain(question Question) (Explanation, error) {
	name, err := canonical(question.Name)
	if err != nil {
		return Explanation{}, err
	}
	rrtype, err := recordType(question.Type)
	if err != nil {
		return Explanation{}, err
	}
	switch {
	case !question.From.IsValid():
		return Explanation{}, errors.New("from whom is asked? give an address")
	case question.From.Zone() != "":
		return Explanation{}, fmt.Errorf("%v is an address of one link, which no list of clients has; give it without the %%%s",
			question.From, question.From.Zone())
	}
	now := g.engine.current.Load()
	if now == nil {
		return Explanation{}, ErrNotReady
	}
	q := &message.Query{Name: name, Question: dns.Question{Name: dns.Fqdn(question.Name), Qtype: rrtype, Qclass: dns.ClassINET}}
	a := &answerer{now: now, client: question.From.Unmap()}
	m, extras := a.answer(q)
	x := Explanation{
		Question: Question{bare(name), dns.Type(rrtype).String(), question.From}, Lists: []string{}, Rules: []ExplainedRule{},
		Generation: now.generation,
		Reply: ExplainedReply{
			Rcode: dns.RcodeToString[m.Rcode], Authoritative: m.Authoritative, Records: []string{}, Errors: []ExplainedError{},
		},
	}
	for _, e := range extras.Errors {
		x.Reply.Errors = append(x.Reply.Errors, ExplainedError{e.Code, dns.ExtendedErrorCodeToString[e.Code], e.Text})
	}
	for _, rr := range m.Answer {
		x.Reply.Records = append(x.Reply.Records, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	if extras.Scope > 0 {
		x.Scope = netip.PrefixFrom(a.client, extras.Scope).Masked()
	}
	if z := now.zones.Find(name, rrtype); z != nil {
		x.Zone = &ExplainedZone{bare(z.Origin()), z.Serial(), now.absent[z.Origin()]}
		if x.Zone.Absent {
			x.Zone.Serial = 0
		}
		x.explain(a, z, rrtype)
	}
	return x, a.failed
}

// recordType reads a type, by its name or as TYPE65280 (RFC 3597 section 5).
func recordType(text string) (uint16, error) {
	upper := strings.ToUpper(text)
	if t, ok := dns.StringToType[upper]; ok {
		return t, nil
	}
	if digits, ok := strings.CutPrefix(upper, "TYPE"); ok {
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil {
			return uint16(n), nil
		}
	}
	return 0, fmt.Errorf("no record type is called %q; write its name, such as MX, or its number, such as TYPE65280", text)
}

// explain says which rules had a part, and why not those before them.
func (x *Explanation) explain(a *answerer, z *zone.Zone, rrtype uint16) {
	rules := a.now.rules
	class, _ := rules.classes.lookup(a.client)
	for i, has := range rules.classes.lists[class] {
		if has {
			x.Lists = append(x.Lists, rules.config.Sources[i].Name)
		}
	}
	found := z.Lookup(x.Name, rrtype, nil)
	owner := dns.CanonicalName(found.Name) // where aliases lead
	for _, w := range found.Wildcards {
		if w.Name == found.Name {
			owner = dns.CanonicalName(w.Source)
		}
	}
	for _, i := range rules.names[owner][rrtype] {
		if r := &rules.rules[i]; !r.fits[class] {
			x.Rules = append(x.Rules, ExplainedRule{Rule: r.Name, Name: bare(owner), Type: x.Type, Sources: r.Sources})
		}
	}
	for _, u := range a.used {
		x.Rules = append(x.Rules, explainPart(a.now, u, class))
	}
	switch {
	case len(a.used) > 0:
	case a.now.signed[owner] != nil && slices.Contains(apexTypes, rrtype):
		x.Why = fmt.Sprintf("none: the keys of the zone make its %s records", x.Type)
	default:
		x.Why = whyNoRule(rules, &found, owner, rrtype)
	}
}

// explainPart says why a rule gives what it does.
func explainPart(now *snapshot, u part, class int) ExplainedRule {
	d := now.decision.Rules[u.outcome.rule]
	place := u.rule.places[class]
	if place >= len(d.Choices) {
		place = 0
	}
	x := ExplainedRule{
		Rule: u.rule.Name, Name: bare(u.name), Type: dns.Type(u.rrtype).String(), Counts: true, Sources: u.rule.Sources, TTL: u.outcome.ttl,
	}
	if place < len(d.Choices) {
		c := d.Choices[place]
		x.Clause, x.Basis, x.Balance, x.Why = c.Clause+1, c.Basis, c.Method, c.Why
	}
	if _, family, ok := strings.Cut(u.outcome.rule, "/"); ok {
		x.Family, x.OfFamily = family, now.rules.config.with(u.rule.Rule, dns.StringToType[family])
	}
	if place > 0 {
		x.Near = u.rule.Near[place-1].Sources
	}
	for i, v := range u.outcome.variants {
		c := ExplainedChoice{Of1000: v.share, This: i == u.variant}
		for _, a := range v.answers {
			is := now.decision.Answers[a.Name]
			one := ExplainedAnswer{Answer: a.Name, Place: is.Place, Why: is.Why}
			if is.Loaded {
				one.Headroom = &is.Headroom
			}
			c.Answers = append(c.Answers, one)
		}
		x.Choices = append(x.Choices, c)
	}
	x.Empty = withoutAddress(u.outcome.variants[u.variant].answers, u.rrtype)
	return x
}

// withoutAddress says that none of the answers has an address of the family that a type is of; empty: one has, or it is another type.
func withoutAddress(answers []*Answer, rrtype uint16) string {
	family := map[uint16]string{dns.TypeA: "IPv4", dns.TypeAAAA: "IPv6"}[rrtype]
	if family == "" {
		return ""
	}
	var names []string
	for _, a := range answers {
		if a.has(rrtype) {
			return ""
		}
		names = append(names, a.Name)
	}
	return fmt.Sprintf("%s has no %s address", strings.Join(names, ", "), family)
}

// whyNoRule says why no rule counts for a name and type.
func whyNoRule(rules *ruleSet, found *zone.Result, owner string, rrtype uint16) string {
	asked := dns.Type(rrtype).String()
	switch {
	case rrtype == dns.TypeNXNAME:
		return "NXNAME stands in denials alone (RFC 9824); nobody may ask for it"
	case rrtype == dns.TypeAXFR || rrtype == dns.TypeIXFR:
		return asked + " asks for a transfer, which transfer.to of the zone allows or not; it is not explained here"
	case found.Kind == zone.Refused:
		return asked + " is no type that records have"
	case found.Kind == zone.Delegation:
		return fmt.Sprintf("none: the zone delegates %s to other servers", bare(found.Name))
	case found.Kind == zone.NXDomain:
		return "none: the zone has no such name"
	}
	var names, types []string
	for i := range rules.rules {
		of := false
		for t, list := range rules.names[owner] {
			if of = of || slices.Contains(list, i); slices.Contains(list, i) && !slices.Contains(types, dns.Type(t).String()) {
				types = append(types, dns.Type(t).String())
			}
		}
		if of {
			names = append(names, rules.rules[i].Name)
		}
	}
	slices.Sort(types)
	switch {
	case len(rules.names[owner][rrtype]) > 0:
		return "none is for this client"
	case len(names) > 0 && found.Kind == zone.NoData:
		return fmt.Sprintf("no %s; the name has rules for %s: %s", asked, strings.Join(types, ", "), strings.Join(names, ", "))
	case len(names) > 0:
		return fmt.Sprintf("the zone's own records; the name has rules for %s: %s", strings.Join(types, ", "), strings.Join(names, ", "))
	case found.Kind == zone.NoData:
		return fmt.Sprintf("none: the zone has the name, and no %s record of it", asked)
	}
	return "none: the zone's own records"
}
