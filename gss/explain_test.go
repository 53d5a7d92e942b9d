package gss

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/gss/decide"
)

func TestExplain(t *testing.T) {
	d := newDeciding(t, nodeFile, "smtp-east")
	for _, tc := range []struct {
		q    Question
		want string
	}{
		{Question{"smtp.mail.example.org", "a", netip.MustParseAddr("192.0.2.3")}, `query: smtp.mail.example.org A from 192.0.2.3
zone: mail.example.org, serial 1
client: is on the lists branch
rule lab: is for the lists lab
rule smtp: clause 1: nearest of group smtp; smtp-east is out (fails from gss-east (tcp 203.0.113.110:25: no route to host))
place: near by the list branch
choice: smtp-west (serving) for 100.0 % of clients, this client's
ttl: 2s
generation: 1
scope: the answer is for 192.0.2.0/25
reply: NOERROR, authoritative
answer: smtp.mail.example.org. 2 IN A 203.0.113.210
`},
		{Question{"web.mail.example.org", "A", netip.MustParseAddr("192.0.2.200")}, `query: web.mail.example.org A from 192.0.2.200
zone: mail.example.org, serial 1
client: is on the lists branch, lab
rule: none: the zone's own records
generation: 1
reply: NOERROR, authoritative
answer: web.mail.example.org. 5 IN A 192.0.2.80
`},
		{Question{"example.com", "A", netip.MustParseAddr("192.0.2.200")}, `query: example.com A from 192.0.2.200
zone: none of ours has it
generation: 1
reply: REFUSED
extended error: 20 (Not Authoritative) 
`},
	} {
		if diff := cmp.Diff(tc.want, explained(t, d, tc.q)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tc.q, diff)
		}
	}
	for _, q := range []Question{{"", "A", netip.MustParseAddr("192.0.2.3")}, {"a.example.org", "ABC", netip.MustParseAddr("192.0.2.3")}, {"a.example.org", "A", netip.Addr{}},
		{"a.example.org", "TYPE65536", netip.MustParseAddr("192.0.2.3")}, {"a.example.org", "TYPE", netip.MustParseAddr("192.0.2.3")},
		{"a.example.org", "A", netip.MustParseAddr("fe80::1%lo")}, {`bad\999`, "A", netip.MustParseAddr("192.0.2.3")}} {
		if x, err := d.Explain(q); err == nil {
			t.Errorf("%+v is explained: %+v", q, x)
		}
	}
}

// explained is an explanation as a person reads it.
func explained(t *testing.T, d *deciding, q Question) string {
	t.Helper()
	x, err := d.Explain(q)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, r := range x.Rows() {
		text.WriteString(r.What + ": " + r.Says + "\n")
	}
	return text.String()
}

// An explanation says why there is no record.
func TestExplainEmptyAnswers(t *testing.T) {
	for query, want := range map[string]string{
		"smtp.mail.example.org AAAA":      "records: none: smtp-west has no IPv6 address",
		"smtp.mail.example.org TXT":       "rule: no TXT; the name has rules for A, AAAA: lab, smtp",
		"mail.example.org NS":             "rule: the zone's own records; the name has rules for HTTPS, MX, SRV: mx",
		"x.pop.mail.example.org TXT":      "rule: no TXT; the name has rules for A, AAAA: smtp",
		"x.pop.mail.example.org A":        "rule smtp (*.pop.mail.example.org A): clause 1",
		"smtp.mail.example.org type1":     "query: smtp.mail.example.org A from",
		"smtp.mail.example.org TYPE65280": "rule: no TYPE65280; the name has rules for A, AAAA",
		`sm\116p.mail.example.org A`:      "query: smtp.mail.example.org A from",
		"alias.mail.example.org A":        "rule lab (smtp.mail.example.org A): is for the lists lab",
		"web.mail.example.org TXT":        "rule: none: the zone has the name, and no TXT record of it",
		"none.mail.example.org A":         "rule: none: the zone has no such name",
		"mail.example.org AXFR":           "rule: AXFR asks for a transfer",
		"mail.example.org NXNAME":         "rule: NXNAME stands in denials alone",
		"mail.example.org OPT":            "rule: OPT is no type that records have",
		"ns.sub.mail.example.org A":       "rule: none: the zone delegates sub.mail.example.org to other servers",
		"inside.only.mail.example.org A":  "rule: none is for this client",
		"inside.only.mail.example.org MX": "rule: no MX; the name has rules for A, AAAA: inside",
	} {
		t.Run(query, func(t *testing.T) {
			text := strings.Replace(nodeFile, "    - {name: lab, domains", "    - {name: inside, domains: [inside.only.mail.example.org], sources: [lab], clauses: [{group: west}]}\n    - {name: lab, domains", 1)
			text = strings.Replace(text, "        web      A", "        sub      NS    ns.sub\n        ns.sub   A     192.0.2.1\n        web      A", 1)
			d := newDeciding(t, text, "smtp-east")
			name, rrtype, _ := strings.Cut(query, " ")
			got := explained(t, d, Question{name, rrtype, netip.MustParseAddr("192.0.2.3")})
			if !strings.Contains(got, want) {
				t.Errorf("it is explained by\n%swant\n%s", got, want)
			}
		})
	}
}

// The parts of an explanation have names for programs.
func TestExplainForPrograms(t *testing.T) {
	d := newDeciding(t, nodeFile, "smtp-east")
	x, err := d.Explain(Question{"smtp.mail.example.org", "A", netip.MustParseAddr("192.0.2.3")})
	if err != nil {
		t.Fatal(err)
	}
	want := Explanation{
		Question: Question{"smtp.mail.example.org", "A", netip.MustParseAddr("192.0.2.3")},
		Zone:     &ExplainedZone{Name: "mail.example.org", Serial: 1}, Lists: []string{"branch"},
		Rules: []ExplainedRule{
			{Rule: "lab", Name: "smtp.mail.example.org", Type: "A", Sources: []string{"lab"}},
			{
				Rule: "smtp", Name: "smtp.mail.example.org", Type: "A", Counts: true, Clause: 1, Basis: decide.ByHealth, Balance: decide.Nearest,
				Near: "branch", TTL: 2, Why: x.Rules[1].Why,
				Choices: []ExplainedChoice{{
					Answers: []ExplainedAnswer{{Answer: "smtp-west", Place: decide.Serving, Why: x.Rules[1].Choices[0].Answers[0].Why}}, Of1000: 1000, This: true,
				}},
			},
		},
		Generation: 1, Scope: netip.MustParsePrefix("192.0.2.0/25"),
		Reply: ExplainedReply{Rcode: "NOERROR", Authoritative: true, Records: []string{"smtp.mail.example.org. 2 IN A 203.0.113.210"}, Errors: []ExplainedError{}},
	}
	if diff := cmp.Diff(want, x, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A secondary zone that nothing has been transferred of has no serial.
func TestExplainAbsentZone(t *testing.T) {
	d := newDeciding(t, secondaryFile("{address: 192.0.2.53:53}"))
	got := explained(t, d, Question{"web.mail.example.org", "A", netip.MustParseAddr("192.0.2.3")})
	if want := "zone: mail.example.org, of which no primary has given anything yet"; !strings.Contains(got, want) || strings.Contains(got, "serial") {
		t.Errorf("it is explained by\n%swant\n%s", got, want)
	}
}

// While the replies of a decision are made ready, those of the one before are explained by its own reasons; and reasons that change
// nothing of what is answered are told as they are.
func TestExplainWhileRepliesAreMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbing(t, nil)
		p.engine.build = slowly(3 * time.Second)
		p.run()
		defer p.end()
		p.after(5 * time.Second)
		explain := func() string {
			x, err := p.Explain(Question{"smtp.mail.example.org", "A", netip.MustParseAddr("198.51.100.99")})
			if err != nil {
				t.Fatal(err)
			}
			r := x.Rules[len(x.Rules)-1]
			return fmt.Sprintf("%s %s: %s", r.Choices[0].Answers[0].Answer, r.Choices[0].Answers[0].Place, r.Why)
		}
		before := explain()
		if _, err := p.engine.order(Order{Kind: decide.KindSuspend, Answer: "smtp-east", Why: "disk"}); err != nil {
			t.Fatal(err)
		}
		p.after(time.Second)
		if got := explain(); got != before || p.ask() != east {
			t.Errorf("before the replies are made it is explained by %q, want %q", got, before)
		}
		p.after(3 * time.Second)
		const want = "smtp-west serving: clause 1: nearest of group smtp; smtp-east is suspended (order suspend: "
		if got := explain(); got != want+"disk)" || p.ask() != west {
			t.Errorf("then by %q", got)
		}
		if _, err := p.engine.order(Order{Kind: decide.KindSuspend, Answer: "smtp-east", Why: "fan"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := explain(); got != want+"fan)" {
			t.Errorf("with another reason by %q", got)
		}
	})
}
