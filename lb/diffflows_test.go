package lb

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/bpf"
	"anycastle/lb/agent"
)

// spread has flows to a VIP live where they would have begun.
func (r *running) spread(lists *fakeLists, n int, vip string) {
	r.t.Helper()
	for i := range n {
		f := clientFlow(i, vip)
		at := netip.AddrPortFrom(r.primaryOf(flowOf(f)), 6087)
		lists.flows[at] = append(lists.flows[at], f)
	}
}

// edited is the config with something else in place of a part of it.
func (r *running) edited(pairs ...string) *Config {
	r.t.Helper()
	text := mailAndDNSText
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			r.t.Fatalf("no %q in the config", pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	next := mustParseWithoutFiles(r.t, text)
	next.TLS = r.lb.config().TLS
	return next
}

func (r *running) diff(cfg *Config, limit int) Diff {
	r.t.Helper()
	d, err := r.lb.Diff(r.t.Context(), cfg, limit)
	check(r.t, err)
	if m := d.Flows; m.Known != m.Stay+m.Later+m.Break+m.Anyway+m.Astray || len(m.List)+m.More != m.Later+m.Break {
		r.t.Errorf("counts %+v, %d listed and %d more", m.FlowCounts, len(m.List), m.More)
	}
	return d
}

const smtpLine = "    - {name: smtp, address: 203.0.113.10, port: 25, farm: mail}\n"

const mx2Line = ", {name: mx2, address: 198.51.100.10}"

// TestDiffNamesTheFlowsOfARealThatGoes and no others.
func TestDiffNamesTheFlowsOfARealThatGoes(t *testing.T) {
	withMailAndDNS(t, func(t *testing.T, r *running, lists *fakeLists) {
		r.spread(lists, 300, smtpOn)
		theirs := lists.flows[agentAt(10)]
		d := r.diff(r.edited(mx2Line, ""), 1000)
		var named []agent.Flow
		for _, m := range d.Flows.List {
			named = append(named, agent.Flow{Client: m.Client, VIP: m.VIP, Protocol: m.Protocol})
			if m.Now || m.Real != "mx2" || m.To != "mail/mx1" && m.To != "mail/mx3" || m.Why != "kept by second-chance until then" || time.Until(m.At) != time.Hour {
				t.Fatalf("%+v", m)
			}
		}
		byClient := func(a, b agent.Flow) int { return a.Client.Compare(b.Client) }
		slices.SortFunc(theirs, byClient)
		slices.SortFunc(named, byClient)
		if !slices.Equal(theirs, named) || len(named) < 50 {
			t.Errorf("%d flows are named, the real has %d", len(named), len(theirs))
		}
		if d.Flows.Known != 300 || d.Flows.Break != 0 || d.Harms() || len(d.Farms) != 1 || d.Farms[0].Name != "mail" || len(d.VIPs) != 0 {
			t.Errorf("%+v, flows %+v", d.Farms, d.Flows.FlowCounts)
		}
		some := r.diff(r.edited(mx2Line, ""), 5)
		if !slices.Equal(some.Flows.List, d.Flows.List[:5]) || some.Flows.More != len(named)-5 {
			t.Errorf("5 of them: %d, %d more", len(some.Flows.List), some.Flows.More)
		}
	})
}

// TestDiffOfWhatBreaks has configs that no transition covers.
func TestDiffOfWhatBreaks(t *testing.T) {
	for _, tc := range []struct {
		name     string
		edit     []string
		most     bool   // break, else all do
		why      string // of a flow that breaks
		vip      string // its changes
		refused  string
		shareMin float64
	}{
		{"a VIP goes", []string{smtpLine, ""}, false,
			"no VIP takes it any more", "removed", "", 1},
		{"another farm", []string{"port: 25, farm: mail", "port: 25, farm: dns"}, false, "its VIP leads to farm dns", "farm mail to dns", "", 1},
		{"another hash", []string{"port: 25, farm: mail", "port: 25, farm: mail, hash: source"}, true,
			"its VIP has hash source/32, before flow: it has another slot", "hash flow to source/32", "", 0.6},
		{"another key", []string{"0e0f", "0e10"}, true, "another hash_key: it has another slot", "another hash_key", "lb.hash_key has changed", 0.6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			withMailAndDNS(t, func(t *testing.T, r *running, lists *fakeLists) {
				r.spread(lists, 300, smtpOn)
				d := r.diff(r.edited(tc.edit...), 300)
				least := 300
				if tc.most {
					least = 150
				}
				if n := d.Flows.Break; n < least || !d.Harms() || !strings.Contains(d.Refused, tc.refused) || (d.Refused == "") != (tc.refused == "") {
					t.Errorf("%+v break, refused: %q", d.Flows.FlowCounts, d.Refused)
				}
				for _, m := range d.Flows.List {
					if !m.Now || m.Why != tc.why {
						t.Fatalf("%+v", m)
					}
				}
				v := d.VIPs[0]
				if v.Name != "smtp" || !slices.Contains(v.Changes, tc.vip) || v.Breaks < tc.shareMin || v.Breaks > tc.shareMin+0.1 {
					t.Errorf("%+v", v)
				}
			})
		})
	}
}

// TestDiffLeavesOutWhatHappensAnyway: a real drains already.
func TestDiffLeavesOutWhatHappensAnyway(t *testing.T) {
	withMailAndDNS(t, func(t *testing.T, r *running, lists *fakeLists) {
		r.spread(lists, 300, smtpOn)
		lists.flows[agentAt(9)] = append(lists.flows[agentAt(9)], lists.flows[agentAt(11)][0]) // a socket that its client left
		_, err := r.lb.Order(Order{Farm: "mail", Real: "mx2", Kind: KindDrain})
		check(t, err)
		synctest.Wait()
		<-time.After(time.Minute)
		d := r.diff(r.edited("farm: dns}", "farm: dns, min_reals: 2}"), 300)
		if m := d.Flows; m.Anyway != len(lists.flows[agentAt(10)]) || m.Astray != 1 || m.Later+m.Break != 0 || d.Harms() {
			t.Errorf("%+v, mx2 has %d", m.FlowCounts, len(lists.flows[agentAt(10)]))
		}
	})
}

// TestDiffOfTrackedFlows: those that began in a transition stay where they are stored, until it ends.
func TestDiffOfTrackedFlows(t *testing.T) {
	withMailAndDNS(t, func(t *testing.T, r *running, lists *fakeLists) {
		_, err := r.lb.Order(Order{Farm: "dns", Real: "ns1", Kind: KindDrain})
		check(t, err)
		synctest.Wait()
		check(t, r.lb.ask(t.Context(), func(l *loop) {
			for n := range 100 {
				r.plane.tracked = append(r.plane.tracked, bpf.TrackedFlow{Client: clientFlow(n, smtpOn).Client, VIP: addrPort("203.0.113.11:53"), Proto: protoUDP, Real: 5})
			}
		}))
		const ns3 = "{name: ns2, address: 198.51.100.18}"
		d := r.diff(r.edited(ns3, ns3+", {name: ns3, address: 198.51.100.19}"), 300)
		if m := d.Flows; m.Known < 20 || m.Later == 0 || m.Break != 0 || m.Stay == 0 {
			t.Errorf("%+v", m.FlowCounts)
		}
		for _, m := range d.Flows.List {
			if m.Source != FromTracked || m.Real != "ns2" || m.To != "dns/ns3" || m.Why != "kept by tracked until then" {
				t.Fatalf("%+v", m)
			}
		}
	})
}

func TestDiffWithholdsAnAddress(t *testing.T) {
	withMailAndDNS(t, func(t *testing.T, r *running, _ *fakeLists) {
		d := r.diff(r.edited("reals: [{name: ns1, address: 198.51.100.17}, {name: ns2, address: 198.51.100.18}]",
			"reals: [{name: ns1, address: 198.51.100.17}, {name: ns3, address: 198.51.100.19}]", "farm: dns}", "farm: dns, min_reals: 2}"), 20)
		want := "until new reals pass their probes: vip dns has 1 of 2 reals that it needs"
		if v := d.VIPs[0]; !d.Harms() || v.Name != "dns" || v.Withheld != want || !slices.Equal(v.Changes, []string{"min_reals 1 to 2"}) {
			t.Errorf("%+v", d.VIPs)
		}
	})
}

func TestDiffOnTheSocket(t *testing.T) {
	withMailAndDNS(t, func(t *testing.T, r *running, lists *fakeLists) {
		r.spread(lists, 30, smtpOn)
		files := r.lb.config().TLS
		text := strings.NewReplacer("node.pem", files.Cert, "node.key", files.Key, "ca.pem", files.CA).Replace(mailAndDNSText)
		before := r.lb.Reals()
		serve := r.lb.Handlers()["POST /v1/diff"]
		for _, tc := range []struct {
			name, query, body string
			status            int
			text              string
		}{
			{"the same", "", text, http.StatusOK, `"farms":[],"vips":[]`},
			{"a real goes", "flows=3&name=new.yml", strings.Replace(text, mx2Line, "", 1), http.StatusOK, `"removed, weight 1"`},
			{"other sections", "", text + "gss: {}\n", http.StatusOK, `"farms":[]`},
			{"unknown key", "name=new.yml", strings.Replace(text, "uplinks", "uplink", 1), http.StatusUnprocessableEntity, `new.yml:2: lb.uplink: unknown key; did you mean "uplinks"?`},
			{"not YAML", "", "lb: [", http.StatusUnprocessableEntity, "node file:1: not YAML"},
			{"no section", "", "gss: {}\n", http.StatusUnprocessableEntity, "has no lb section"},
			{"too long", "", "# " + strings.Repeat("x", 5<<20), http.StatusUnprocessableEntity, "too large"},
			{"flows", "flows=-1", text, http.StatusUnprocessableEntity, "give 0 to 100000"},
			{"another key", "", strings.Replace(text, "0e0f", "0e10", 1), http.StatusOK, `"refused":"lb.hash_key has changed`},
			{"query", "file=x", text, http.StatusUnprocessableEntity, `"file" is unknown`},
			{"probe's file", "", strings.Replace(text, "{type: tcp, port: 25}", "{type: tls, port: 25, server_name: mx.example.org, ca: "+files.Key+"}", 1),
				http.StatusUnprocessableEntity, "holds no certificate"},
		} {
			w := httptest.NewRecorder()
			serve(w, httptest.NewRequest(http.MethodPost, "/v1/diff?"+tc.query, strings.NewReader(tc.body)))
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.text) {
				t.Errorf("%s: status %d, %.500s", tc.name, w.Code, w.Body)
			}
			if tc.status == http.StatusOK {
				check(t, json.Unmarshal(w.Body.Bytes(), &Diff{}))
			}
		}
		r.expectNothing()
		if !slices.Equal(before, r.lb.Reals()) {
			t.Error("a comparison has changed what is shown")
		}
	})
}

// expectNothing sees that the data plane was told nothing since the reals passed.
func (r *running) expectNothing() {
	r.t.Helper()
	synctest.Wait()
	told := r.plane.take()
	if i := slices.IndexFunc(told, func(s string) bool { return strings.HasPrefix(s, "announce") }); i < 0 || i != len(told)-1 {
		r.t.Errorf("steps %q", told)
	}
}

func TestDiffBeforeTheFirstProbes(t *testing.T) {
	text := mailAndDNS(t)
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, text, newFakePlane(), nil)
		if _, err := r.lb.Diff(t.Context(), r.lb.config(), 20); err == nil || !strings.Contains(err.Error(), "first probes have not finished") {
			t.Errorf("error %v", err)
		}
		r.end()
	})
}

// FuzzDiffQuery looks for panics in what comes with a comparison.
func FuzzDiffQuery(f *testing.F) {
	f.Add("new.yml", 7)
	f.Fuzz(func(t *testing.T, name string, limit int) {
		gotName, gotLimit, err := parseDiffQuery(DiffQuery(name, limit))
		if ok := limit >= 0 && limit <= MaxFlows; ok != (err == nil) || ok && name != "" && (gotName != name || gotLimit != limit) {
			t.Errorf("%q, %d comes back as %q, %d, %v", name, limit, gotName, gotLimit, err)
		}
	})
}

// TestDiffComesTrue compares predictions with connections of a client, in namespaces: one config takes a real out, the other
// has another hash.
func TestDiffComesTrue(t *testing.T) {
	n := newFlowNet(t)
	n.open(30)
	n.list()

	gone := n.with("        - {name: mx1, address: 198.51.100.18}\n", "")
	d := n.diff(gone)
	n.compare(d, map[string]bool{"mx1": true}, false)
	if d.Flows.Break != 0 || d.Harms() {
		t.Errorf("flows would break: %+v, %+v", d.Flows.FlowCounts, d.VIPs)
	}
	n.reload(gone)
	eventually(t, "mx1 drains", func() bool { return n.balancer.realState("mx1") == StateDraining })
	for _, conn := range n.conns {
		echo(t, conn, 4096) // kept, as was said
	}
	for _, f := range n.list().Flows {
		if f.Real != n.at[f.Client] || f.Elsewhere != (f.Real == "mx1") {
			t.Errorf("%s has %+v", n.at[f.Client], f)
		}
	}
}

func TestDiffOfAnotherHashComesTrue(t *testing.T) {
	n := newFlowNet(t)
	n.open(30)
	n.list()
	source := n.with("port: 25, farm: smtp}", "port: 25, farm: smtp, hash: source}")
	d := n.diff(source)
	broken := map[netip.AddrPort]bool{}
	for _, m := range d.Flows.List {
		broken[m.Client] = m.Now
	}
	if d.Flows.Known != 30 || d.Flows.Break != len(broken) || d.Flows.Stay != 30-len(broken) || len(broken) == 0 || len(broken) == 30 {
		t.Fatalf("%+v, %d listed", d.Flows.FlowCounts, len(broken))
	}
	n.reload(source)
	for from := range broken { // those are heard of first: then the config is in force
		eventually(t, fmt.Sprintf("%v at %s breaks", from, n.at[from]), func() bool {
			_, err := n.conns[from].Write([]byte("x"))
			if err == nil {
				_, err = n.conns[from].Read(make([]byte, 1))
			}
			return err != nil && !os.IsTimeout(err)
		})
	}
	for from, conn := range n.conns {
		if !broken[from] {
			echo(t, conn, 4096)
		}
	}
}

// diff asks about a config until all connections are known.
func (n *flowNet) diff(text string) (d Diff) {
	n.t.Helper()
	eventually(n.t, "all flows in a comparison", func() bool {
		d = n.post(text)
		return d.Flows.Known == len(n.conns)
	})
	return d
}

// compare sees that exactly the flows of these reals would move, and when.
func (n *flowNet) compare(d Diff, moves map[string]bool, now bool) {
	n.t.Helper()
	named := map[netip.AddrPort]bool{}
	for _, m := range d.Flows.List {
		named[m.Client] = true
		if m.Real != n.at[m.Client] || m.Now != now {
			n.t.Errorf("%s has %+v", n.at[m.Client], m)
		}
	}
	for from, real := range n.at {
		if named[from] != moves[real] {
			n.t.Errorf("%v at %s: said to move: %v", from, real, named[from])
		}
	}
}
