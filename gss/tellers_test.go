package gss

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/gss/balancer"
	"anycastle/gss/decide"
	"anycastle/internal/mtlstest"
)

func TestTellerComplaints(t *testing.T) {
	files := mtlstest.NewCA(t).Node(t, "gss")
	withTLS := fmt.Sprintf("  tls: {cert: %s, key: %s, ca: %s}\n", files.Cert, files.Key, files.CA)
	const list, vip = "  answers:", "target: mx-west.example.org"
	one := "  balancers: [{name: lb1, site: east, address: 198.51.100.1:6088}"
	runSlips(t, map[string]slip{
		"no tls":            {list, one + "]\n" + list, `16: gss.balancers: balancers are called over TLS with a certificate; give tls: {cert: FILE`},
		"nameless":          {list, withTLS + "  balancers: [{address: 198.51.100.1:6088}]\n" + list, `17: gss.balancers[0].name: missing; give the balancer a name`},
		"twice":             {list, withTLS + one + ", {name: lb1, address: 198.51.100.3:6088}]\n" + list, `17: gss.balancers[1].name: another balancer is called "lb1"`},
		"address twice":     {list, withTLS + one + ", {name: lb2, address: 198.51.100.1:6088}]\n" + list, `17: gss.balancers[1].address: 198.51.100.1:6088 is listed twice`},
		"homeless":          {list, withTLS + "  balancers: [{name: lb1}]\n" + list, `17: gss.balancers[0].address: missing; give its lb.report.listen`},
		"portless":          {list, withTLS + "  balancers: [{name: lb1, address: 198.51.100.1:0}]\n" + list, `17: gss.balancers[0].address: 198.51.100.1:0 is no address and port of a balancer`},
		"wildcard":          {list, withTLS + "  balancers: [{name: lb1, address: 0.0.0.0:6088}]\n" + list, `17: gss.balancers[0].address: 0.0.0.0:6088 is no address`},
		"site":              {list, withTLS + "  balancers: [{name: lb1, site: eest, address: 198.51.100.1:6088}]\n" + list, `17: gss.balancers[0].site: no site of an answer is called "eest"; did you mean east?`},
		"vip of nobody":     {vip, "vip: smtp", `25: gss.answers[1].vip: no balancer is there to tell of it`},
		"agent homeless":    {vip, "agent: {interval: 1s}", `25: gss.answers[1].agent.address: missing; give one such as 198.51.100.1:5025`},
		"agent portless":    {vip, "agent: {address: 198.51.100.40:0}", `25: gss.answers[1].agent.address: 198.51.100.40:0 is no address and port of an agent`},
		"agent asked often": {vip, "agent: {address: 198.51.100.40:5025, interval: 10ms}", `25: gss.answers[1].agent.interval: 10ms is not from 100ms to half of load.fresh, which is 3s`},
		"agent asked late":  {vip, "agent: {address: 198.51.100.40:5025, interval: 2s}", `25: gss.answers[1].agent.interval: 2s is not from`},
	})
	var many strings.Builder
	for i := range maxBalancers + 1 {
		fmt.Fprintf(&many, "    - {name: lb%d, address: 198.51.100.1:%d}\n", i, 6000+i)
	}
	_, err := decode(strings.Replace(nodeFile, list, withTLS+"  balancers:\n"+many.String()+list, 1))
	if err == nil || !strings.Contains(err.Error(), "gss.balancers: 65 balancers; 64 are the most") {
		t.Errorf("with one more: %v", err)
	}
}

func TestTellersOfANodeFile(t *testing.T) {
	files := mtlstest.NewCA(t).Node(t, "gss")
	text := strings.Replace(nodeFile, "  answers:", fmt.Sprintf("  tls: {cert: %s, key: %s, ca: %s}\n", files.Cert, files.Key, files.CA)+
		"  balancers: [{name: lb1, site: east, address: 198.51.100.1:6088}, {name: lb2, address: \"[2001:db8::3]:6088\"}]\n  answers:", 1)
	text = strings.Replace(text, "target: mx-west.example.org", "target: mx-west.example.org\n      vip: smtp\n      agent: {address: 198.51.100.40:5025}", 1)
	c := mustDecode(t, text)
	want := []balancer.Balancer{{Name: "lb1", Site: "east", Address: lb1}, {Name: "lb2", Address: netip.MustParseAddrPort("[2001:db8::3]:6088")}}
	if diff := cmp.Diff(want, c.Balancers, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("balancers (-want +got):\n%s", diff)
	}
	if a := c.Answers[1]; a.VIP != "smtp" || *a.Agent != (Agent{netip.MustParseAddrPort("198.51.100.40:5025"), time.Second}) {
		t.Errorf("answer %+v with the agent %+v", a, a.Agent)
	}
	if _, err := New(c, Options{}); err != nil {
		t.Error(err)
	}
}

// An agent's percentage counts as much as the flows of the balancers beside it.
func TestSizeOfAnAgent(t *testing.T) {
	agent := decide.Report{From: "agent", Used: 75, Capacity: 100}
	flows := []decide.Report{{Used: 1000, Capacity: 2000}, {Used: 1500, Capacity: 2000}, {Used: 7}}
	for name, tc := range map[string]struct {
		r      decide.Report
		others []decide.Report
		want   decide.Report
	}{
		"alone":                   {agent, nil, agent},
		"beside balancers":        {agent, flows, decide.Report{From: "agent", Used: 3000, Capacity: 4000}},
		"beside some without":     {agent, flows[2:], agent},
		"one that does not know":  {decide.Report{From: "agent"}, flows, decide.Report{From: "agent"}},
		"one that is out of room": {decide.Report{Used: 100, Capacity: 100}, flows, decide.Report{Used: 4000, Capacity: 4000}},
	} {
		if got := size(tc.r, tc.others); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}
