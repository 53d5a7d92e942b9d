package gss

import (
	"fmt"
	"strings"
)

// Row is one line of an explanation.
type Row struct{ What, Says string }

// Rows lays an explanation out for a person.
func (x Explanation) Rows() (rows []Row) {
	add := func(what, format string, args ...any) { rows = append(rows, Row{what, fmt.Sprintf(format, args...)}) }
	add("query", "%s %s from %v", x.Name, x.Type, x.From)
	switch {
	case x.Zone == nil:
		add("zone", "none of ours has it")
	case x.Zone.Absent:
		add("zone", "%s, of which no primary has given anything yet, or not for too long; `anycastle show zone` says why", x.Zone.Name)
	default:
		add("zone", "%s, serial %d", x.Zone.Name, x.Zone.Serial)
	}
	if len(x.Lists) > 0 {
		add("client", "is on the lists %s", strings.Join(x.Lists, ", "))
	}
	for _, r := range x.Rules {
		rows = append(rows, r.rows(x.Question)...)
	}
	if x.Why != "" {
		add("rule", "%s", x.Why)
	}
	add("generation", "%d", x.Generation)
	if x.Scope.IsValid() {
		add("scope", "the answer is for %v", x.Scope)
	}
	authoritative := ""
	if x.Reply.Authoritative {
		authoritative = ", authoritative"
	}
	add("reply", "%s%s", x.Reply.Rcode, authoritative)
	for _, record := range x.Reply.Records {
		add("answer", "%s", record)
	}
	for _, e := range x.Reply.Errors {
		add("extended error", "%d (%s) %s", e.Code, e.Name, e.Text)
	}
	return rows
}

func (r ExplainedRule) rows(asked Question) (rows []Row) {
	add := func(what, format string, args ...any) { rows = append(rows, Row{what, fmt.Sprintf(format, args...)}) }
	what := "rule " + r.Rule
	if r.Name != asked.Name || r.Type != asked.Type {
		what += fmt.Sprintf(" (%s %s)", r.Name, r.Type)
	}
	if !r.Counts {
		add(what, "is for the lists %s", strings.Join(r.Sources, ", "))
		return rows
	}
	add(what, "%s", r.Why)
	if r.Family != "" {
		add("family", "only answers with %s records count: %s", r.Family, strings.Join(r.OfFamily, ", "))
	}
	if r.Near != "" {
		add("place", "near by the list %s", r.Near)
	}
	for _, c := range r.Choices {
		var names []string
		for _, a := range c.Answers {
			text := fmt.Sprintf("%s (%s)", a.Answer, a.Place)
			if a.Headroom != nil {
				text = fmt.Sprintf("%s (%s, %.0f %% of its capacity left)", a.Answer, a.Place, 100**a.Headroom)
			}
			names = append(names, text)
		}
		mark := ""
		if c.This {
			mark = ", this client's"
		}
		add("choice", "%s for %.1f %% of clients%s", strings.Join(names, ", "), float64(c.Of1000)/10, mark)
	}
	add("ttl", "%ds", r.TTL)
	if r.Empty != "" {
		add("records", "none: %s", r.Empty)
	}
	return rows
}
