package lb

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"anycastle/bpf"
	"anycastle/internal/mtlstest"
	"anycastle/internal/probe"
	"anycastle/lb/agent"
)

// fakeLists are agents that list what a test tells them to.
type fakeLists struct {
	flows map[netip.AddrPort][]agent.Flow
	fail  map[netip.AddrPort]error
}

func (f *fakeLists) SetTargets([]netip.AddrPort) {}

func (f *fakeLists) Flows(ctx context.Context, t netip.AddrPort, limit int, take func(agent.Flow) error) (int, error) {
	for i, flow := range f.flows[t] {
		if i == limit {
			return i, nil
		}
		if err := take(flow); err != nil {
			return i, err
		}
	}
	return len(f.flows[t]), f.fail[t]
}

// mailAndDNSText has a farm with agents and second chances, and one without.
const mailAndDNSText = `lb:
  uplinks: [eth1]
  hash_key: "000102030405060708090a0b0c0d0e0f"
  tls: {cert: node.pem, key: node.key, ca: ca.pem}
  farms:
    - name: mail
      forward: gue
      transition: {method: second-chance, time: 1h}
      agent: {}
      probes: [{type: tcp, port: 25}]
      reals: [{name: mx1, address: 198.51.100.9}, {name: mx2, address: 198.51.100.10}, {name: mx3, address: 198.51.100.11}]
    - name: dns
      transition: {time: 1h}
      probes: [{type: dns, port: 53, query: example.org}]
      reals: [{name: ns1, address: 198.51.100.17}, {name: ns2, address: 198.51.100.18}]
  vips:
    - {name: smtp, address: 203.0.113.10, port: 25, farm: mail}
    - {name: imap, address: 203.0.113.10, port: 143, farm: mail, hash: source, source_prefix: 24}
    - {name: dns, address: 203.0.113.11, protocol: udp, port: 53, farm: dns}
`

// mailAndDNS has its certificates.
func mailAndDNS(t *testing.T) string {
	ca := mtlstest.NewCA(t)
	files := ca.Node(t, "lb1")
	return strings.NewReplacer("node.pem", files.Cert, "node.key", files.Key, "ca.pem", files.CA).Replace(mailAndDNSText)
}

// withMailAndDNS runs a loop on these, with all reals in service.
func withMailAndDNS(t *testing.T, f func(t *testing.T, r *running, lists *fakeLists)) {
	text := mailAndDNS(t)
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, text, newFakePlane(), nil)
		lists := &fakeLists{flows: map[netip.AddrPort][]agent.Flow{}, fail: map[netip.AddrPort]error{}}
		check(t, r.lb.ask(t.Context(), func(l *loop) { l.watch.agents = lists }))
		r.passAll()
		f(t, r, lists)
		r.end()
	})
}

// passAll gives all reals of the config a next hop, and has their probes pass.
func (r *running) passAll() {
	r.t.Helper()
	hops := map[netip.Addr]Hop{}
	var ids []realID
	for _, f := range r.lb.config().Farms {
		for _, real := range f.Reals {
			hops[real.Address] = testHop
			ids = append(ids, realID{f.Name, real.Name})
		}
	}
	r.hops(hops)
	synctest.Wait()
	for _, id := range ids {
		r.report(id, probe.Passing)
	}
	synctest.Wait()
}

// agentAt is the agent of a real of farm mail.
func agentAt(last int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(last)}), 6087)
}

// clientFlow is the n-th flow to a VIP.
func clientFlow(n int, vip string) agent.Flow {
	return agent.Flow{Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n % 200)}), uint16(1024+n)), VIP: netip.MustParseAddrPort(vip), Protocol: agent.TCP}
}

const (
	smtpOn = "203.0.113.10:25"
	imapOn = "203.0.113.10:143"
)

func (r *running) list(q FlowQuery) FlowList {
	r.t.Helper()
	list, err := r.lb.Flows(r.t.Context(), q)
	check(r.t, err)
	if list.Total != len(list.Flows)+list.More {
		r.t.Errorf("%d flows in all, %d in the list and %d more", list.Total, len(list.Flows), list.More)
	}
	return list
}

func TestFlowsAreListed(t *testing.T) {
	withMailAndDNS(t, func(t *testing.T, r *running, lists *fakeLists) {
		for n := range 30 {
			at := agentAt(9 + n%3)
			lists.flows[at] = append(lists.flows[at], clientFlow(n, []string{smtpOn, imapOn}[n/15]))
		}
		lists.flows[agentAt(9)] = append(lists.flows[agentAt(9)], clientFlow(99, "203.0.113.99:25")) // another balancer's VIP
		lists.fail[agentAt(11)] = errors.New("connection refused")
		all := r.list(FlowQuery{})
		if all.Total != 30 || all.Why != "" || all.Behind != "" {
			t.Errorf("list of %d: %+v", all.Total, all)
		}
		want := []UnknownFlows{
			{"dns", "", "it has no agent, and a balancer remembers flows only while slots are in transition"},
			{"mail", "mx3", "agent 198.51.100.11:6087: connection refused"},
		}
		if !slices.Equal(want, all.Unknown) {
			t.Errorf("unknown %+v, want %+v", all.Unknown, want)
		}
		r.compareRows(all, lists)
		for _, tc := range []struct {
			name  string
			query FlowQuery
			want  int
		}{
			{"vip", FlowQuery{VIP: "imap"}, 15},
			{"real", FlowQuery{Real: "mail/mx2"}, 10},
			{"vip and real", FlowQuery{VIP: "imap", Real: "mail/mx2"}, 5},
			{"vip of no such farm", FlowQuery{VIP: "dns"}, 0},
			{"client", FlowQuery{Client: netip.MustParsePrefix("192.0.2.0/29")}, 8},
			{"other family", FlowQuery{Client: netip.MustParsePrefix("2001:db8::/32")}, 0},
		} {
			if list := r.list(tc.query); list.Total != tc.want {
				t.Errorf("%s: %d flows, want %d", tc.name, list.Total, tc.want)
			}
		}
		some := r.list(FlowQuery{Limit: 7})
		if len(some.Flows) != 7 || some.More != 23 || !slices.Equal(some.Flows, all.Flows[:7]) {
			t.Errorf("7 of them: %+v", some)
		}
	})
}

// compareRows compares rows with what is installed.
func (r *running) compareRows(list FlowList, lists *fakeLists) {
	r.t.Helper()
	for _, f := range list.Flows {
		at := netip.AddrPortFrom(f.Address, 6087)
		if !slices.Contains(lists.flows[at], agent.Flow{Client: f.Client, VIP: f.VIP, Protocol: f.Protocol}) {
			r.t.Errorf("%+v is not among the flows of %v", f, at)
		}
		pair := r.plane.slots[r.plane.vips[vipKey{f.VIP.Addr(), protoTCP, OnePort(f.VIP.Port())}].farm][f.Slot.Number]
		primary, secondary := r.plane.reals[uint32(pair.primary)].addr, r.plane.reals[uint32(pair.secondary)].addr
		names := map[netip.Addr]string{addr("198.51.100.9"): "mx1", addr("198.51.100.10"): "mx2", addr("198.51.100.11"): "mx3"}
		if f.Real != names[f.Address] || f.Slot.Primary != names[primary] || f.Slot.Secondary != names[secondary] || f.Elsewhere != (primary != f.Address) {
			r.t.Errorf("%+v is in a slot of %v and %v", f, primary, secondary)
		}
	}
}

// TestFlowsOnASecondary drains a real: its flows are shown where they are, and that their slots lead elsewhere.
func TestFlowsOnASecondary(t *testing.T) {
	withMailAndDNS(t, func(t *testing.T, r *running, lists *fakeLists) {
		for n := range 300 {
			f := clientFlow(n, smtpOn)
			at := netip.AddrPortFrom(r.primaryOf(flowOf(f)), 6087)
			lists.flows[at] = append(lists.flows[at], f)
		}
		for _, f := range r.list(FlowQuery{}).Flows {
			if f.Elsewhere || f.Slot.Primary != f.Real {
				t.Fatalf("at rest: %+v", f)
			}
		}
		_, err := r.lb.Order(Order{Farm: "mail", Real: "mx2", Kind: KindDrain})
		check(t, err)
		synctest.Wait()
		for _, f := range r.list(FlowQuery{}).Flows {
			if f.Elsewhere != (f.Real == "mx2") || f.Slot.Secondary != f.Real {
				t.Fatalf("while mx2 drains: %+v", f)
			}
		}
	})
}

// primaryOf gives the real that a new flow gets.
func (r *running) primaryOf(f flow) netip.Addr {
	r.t.Helper()
	var got netip.Addr
	check(r.t, r.lb.ask(r.t.Context(), func(l *loop) {
		c := chooser{l.have, [16]byte(l.in.cfg.HashKey)}
		ch, _ := c.find(f)
		got = c.addr(ch.pair.primary)
	}))
	return got
}

func TestFlowsThatAreTracked(t *testing.T) {
	withMailAndDNS(t, func(t *testing.T, r *running, lists *fakeLists) {
		query := FlowQuery{VIP: "dns"}
		var stored []bpf.TrackedFlow
		for n := range 200 {
			f := flow{clientFlow(n, smtpOn).Client, addrPort("203.0.113.11:53"), protoUDP}
			stored = append(stored, bpf.TrackedFlow{Client: f.client, VIP: f.vip, Proto: f.proto, Real: 5})
		}
		check(t, r.lb.ask(t.Context(), func(*loop) { r.plane.tracked = stored }))
		list := r.list(query)
		if list.Total != 0 || !strings.Contains(list.Why, "no slot is in transition") || !strings.Contains(list.Why, "`agent`") {
			t.Errorf("at rest: %+v", list)
		}
		_, err := r.lb.Order(Order{Farm: "dns", Real: "ns1", Kind: KindDrain})
		check(t, err)
		synctest.Wait()
		list = r.list(query)
		if list.Total < 50 || list.Total > 150 || list.Why != "" || len(list.Unknown) != 1 || !strings.Contains(list.Unknown[0].Why, "only flows that began in a transition") {
			t.Errorf("%d flows: %+v", list.Total, list.Unknown)
		}
		for _, f := range list.Flows {
			if f.Source != FromTracked || f.Real != "ns2" || f.Slot.Primary != "ns2" || f.Slot.Secondary != "ns1" || f.Protocol != "udp" || f.Elsewhere {
				t.Fatalf("%+v", f)
			}
		}
	})
}

func TestFlowsOnTheSocket(t *testing.T) {
	withMailAndDNS(t, func(t *testing.T, r *running, lists *fakeLists) {
		lists.flows[agentAt(9)] = []agent.Flow{clientFlow(1, smtpOn), clientFlow(2, smtpOn)}
		serve := r.lb.Handlers()["GET /v1/flow"]
		for _, tc := range []struct {
			query  string
			status int
			text   string
		}{
			{"", http.StatusOK, `"total":2`},
			{"limit=1&client=192.0.2.2", http.StatusOK, `"total":1`},
			{FlowQuery{VIP: "smtp", Real: "mail/mx1", Client: netip.MustParsePrefix("192.0.2.0/24"), Limit: 1}.Values().Encode(), http.StatusOK, `"more":1`},
			{"vip=smpt", http.StatusUnprocessableEntity, `no VIP is called "smpt"; there are ["smtp" "imap" "dns"]`},
			{"real=mx1", http.StatusUnprocessableEntity, "want FARM/NAME"},
			{"real=mail/mx9", http.StatusUnprocessableEntity, `has no real "mx9"`},
			{"client=mx1", http.StatusUnprocessableEntity, "no network such as"},
			{"limit=0", http.StatusUnprocessableEntity, "give 1 to 100000"},
			{"limit=100001", http.StatusUnprocessableEntity, "give 1 to 100000"},
			{"vips=smtp", http.StatusUnprocessableEntity, `"vips" is unknown`},
		} {
			w := httptest.NewRecorder()
			serve(w, httptest.NewRequest(http.MethodGet, "/v1/flow?"+tc.query, nil))
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.text) {
				t.Errorf("%s: status %d, %s", tc.query, w.Code, w.Body)
			}
			if tc.status == http.StatusOK {
				check(t, json.Unmarshal(w.Body.Bytes(), &FlowList{}))
			}
		}
	})
}

func TestFlowsOfAProcessThatHasEnded(t *testing.T) {
	lb, err := New(*mustParse(t, valid), Options{})
	check(t, err)
	if _, err := lb.Flows(t.Context(), FlowQuery{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("error %v", err)
	}
}

// FuzzFlowQuery looks for panics, and for queries that do not survive their own form.
func FuzzFlowQuery(f *testing.F) {
	f.Add("smtp", "mail/mx1", "192.0.2.0/24", 7)
	f.Add("", "", "2001:db8::1", 0)
	f.Fuzz(func(t *testing.T, vip, real, client string, limit int) {
		p, err := ParsePrefix(client)
		if err != nil && client != "" {
			return
		}
		q := FlowQuery{VIP: vip, Real: real, Client: p, Limit: limit}
		back, err := parseFlowQuery(q.Values())
		if limit >= 0 && (err != nil || back != q) {
			t.Errorf("%+v comes back as %+v, %v", q, back, err)
		}
	})
}
