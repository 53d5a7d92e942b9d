package gss

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"anycastle/gss/message"
)

// Question is what `explain name` asks.
type Question struct {
	Name string     `json:"name"`
	Type string     `json:"type"`
	From netip.Addr `json:"from"` // the client, or its network's address
}

// Row is one line of an explanation.
type Row struct {
	What string `json:"what"`
	Says string `json:"says"`
}

// Explain says why a client is answered so at this moment. Where a balance method gives clients in turn or by chance, the answer is
// one of those that are possible.
func (g *GSS) Explain(question Question) ([]Row, error) {
	name, err := canonical(question.Name)
	if err != nil {
		return nil, err
	}
	rrtype, ok := dns.StringToType[strings.ToUpper(question.Type)]
	if !ok {
		return nil, fmt.Errorf("no record type is called %q", question.Type)
	}
	if !question.From.IsValid() {
		return nil, errors.New("from whom is asked? give an address")
	}
	now := g.engine.current.Load()
	if now == nil {
		return nil, ErrNotReady
	}
	q := &message.Query{Name: name, Question: dns.Question{Name: dns.Fqdn(question.Name), Qtype: rrtype, Qclass: dns.ClassINET}}
	a := &answerer{now: now, client: question.From.Unmap()}
	m, x := a.answer(q)
	rows := []Row{{"query", fmt.Sprintf("%s %s from %v", bare(name), dns.Type(rrtype), question.From)}}
	add := func(what, format string, args ...any) { rows = append(rows, Row{what, fmt.Sprintf(format, args...)}) }
	if z := now.zones.Find(name, rrtype); z != nil {
		add("zone", "%s, serial %d", bare(z.Origin()), z.Serial())
	} else {
		add("zone", "none of ours has it")
	}
	g.explainRules(a, name, rrtype, add)
	add("generation", "%d", now.generation)
	if x.Scope > 0 {
		add("scope", "the answer is for %v", netip.PrefixFrom(a.client, x.Scope).Masked())
	}
	add("reply", "%s%s", dns.RcodeToString[m.Rcode], map[bool]string{true: ", authoritative"}[m.Authoritative])
	for _, rr := range m.Answer {
		add("answer", "%s", strings.ReplaceAll(rr.String(), "\t", " "))
	}
	for _, e := range x.Errors {
		add("extended error", "%d (%s) %s", e.Code, dns.ExtendedErrorCodeToString[e.Code], e.Text)
	}
	return rows, a.failed
}

// explainRules says which rules had a part, and why not those before them.
func (g *GSS) explainRules(a *answerer, name string, rrtype uint16, add func(what, format string, args ...any)) {
	e := g.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	rules := a.now.rules
	class, _ := rules.classes.lookup(a.client)
	var lists []string
	for i, has := range rules.classes.lists[class] {
		if has {
			lists = append(lists, rules.config.Sources[i].Name)
		}
	}
	if len(lists) > 0 {
		add("client", "is on the lists %s", strings.Join(lists, ", "))
	}
	for _, i := range rules.names[name][rrtype] {
		if r := &rules.rules[i]; !r.fits[class] {
			add("rule "+r.Name, "is for the lists %s", strings.Join(r.Sources, ", "))
		}
	}
	if len(a.used) == 0 {
		add("rule", "none: the zone's own records")
	}
	for _, u := range a.used {
		d := e.last.Rules[u.outcome.rule]
		place := u.rule.places[class]
		if place >= len(d.Choices) {
			place = 0
		}
		if place < len(d.Choices) {
			add("rule "+u.rule.Name, "%s", d.Choices[place].Why)
		}
		if _, family, ok := strings.Cut(u.outcome.rule, "/"); ok {
			names := rules.config.with(u.rule.Rule, dns.StringToType[family])
			add("family", "only answers with %s records count: %s", family, strings.Join(names, ", "))
		}
		if place > 0 {
			add("place", "near by the list %s", u.rule.Near[place-1].Sources)
		}
		for i, v := range u.outcome.variants {
			var names []string
			for _, a := range v.answers {
				is := e.last.Answers[a.Name]
				text := fmt.Sprintf("%s (%s)", a.Name, is.Place)
				if is.Loaded {
					text = fmt.Sprintf("%s (%s, %.0f %% of its capacity left)", a.Name, is.Place, 100*is.Headroom)
				}
				names = append(names, text)
			}
			mark := ""
			if i == u.variant {
				mark = ", this client's"
			}
			add("choice", "%s for %.1f %% of clients%s", strings.Join(names, ", "), float64(v.share)/10, mark)
		}
		add("ttl", "%ds", u.outcome.ttl)
	}
}
