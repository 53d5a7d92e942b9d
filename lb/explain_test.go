package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"anycastle/bpf"

	"github.com/google/go-cmp/cmp"
)

// ofEveryKind has a farm for each way of forwarding, and a VIP of each family.
const ofEveryKind = `lb:
  uplinks: [lo]
  hash_key: "000102030405060708090a0b0c0d0e0f"
  tls: {cert: node.pem, key: node.key, ca: ca.pem}
  farms:
    - name: smtp
      probes: [{type: tcp, port: 25}]
      reals: [{name: mx1, address: 198.51.100.9}, {name: mx2, address: 198.51.100.10}]
    - name: imap
      forward: gue
      transition: {method: second-chance}
      agent: {}
      probes: [{type: tcp, port: 143}]
      reals: [{name: imap1, address: "2001:db8::9"}, {name: imap2, address: "2001:db8::10"}]
    - name: dns
      forward: l2
      probes: [{type: dns, port: 53, query: example.org}]
      reals: [{name: ns1, address: 198.51.100.11}]
  vips:
    - {name: smtp, address: 203.0.113.10, port: 25, farm: smtp}
    - {name: smtp6, address: "2001:db8:0:25::10", port: 25, farm: smtp}
    - {name: imap, address: 203.0.113.10, port: 100-200, farm: imap}
    - {name: dns, address: 203.0.113.11, protocol: udp, port: 53, farm: dns}
    - {name: gue, address: 203.0.113.11, protocol: udp, port: 6080, farm: dns}
`

// explained is a loop that does not run, on the real program and maps.
type explained struct {
	t    *testing.T
	x    *xdp
	loop *loop
}

func withExplained(t *testing.T, f func(e *explained)) {
	t.Helper()
	cfg := mustParseWithoutFiles(t, ofEveryKind)
	withPlane(t, pinDir(t), cfg.HashKey, func(x *xdp, _ tables) {
		e := &explained{x: x}
		e.start(t, cfg)
		f(e)
	})
}

// start has another process take over what is installed. All reals are in service there, before change.
func (e *explained) start(t *testing.T, cfg *Config, change ...func(l *loop)) {
	t.Helper()
	e.t = t
	lb, err := New(*cfg, Options{})
	check(t, err)
	have, err := e.x.Read()
	check(t, err)
	check(t, e.x.ForgetFlows())
	e.loop = newLoop(lb, e.x, have)
	e.loop.in, e.loop.ready, e.loop.uplinks = *allPassing(cfg), true, []int{1} // as lo is everywhere
	for addr, hop := range e.loop.in.hops {
		hop.Ifindex = 1
		e.loop.in.hops[addr] = hop
	}
	for _, c := range change {
		c(e.loop)
	}
	e.install()
}

func (e *explained) install() {
	e.t.Helper()
	check(e.t, reconcile(e.x, e.loop.have, e.loop.in.desired(e.loop.have, epoch)))
}

// order is given and followed at once.
func (l *loop) order(real realID, kind Kind) {
	l.in.orders[real] = Order{Farm: real.farm, Real: real.name, Kind: kind, Since: epoch, Deadline: epoch.Add(time.Hour)}
	l.in.evolve(epoch)
}

func (e *explained) ask(q Question) Answer {
	e.t.Helper()
	q.Uplink = "lo"
	q, err := q.Complete()
	check(e.t, err)
	a, err := e.loop.explain(q)
	check(e.t, err)
	return a
}

// counted is everything that a packet could change.
func (e *explained) counted() string {
	e.t.Helper()
	var b strings.Builder
	for key, v := range e.loop.have.allVIPs() {
		packets, bytes, err := e.x.Forwarded(v)
		check(e.t, err)
		fmt.Fprintf(&b, "%v %d %d\n", key, packets, bytes)
	}
	lines := strings.Split(b.String(), "\n")
	slices.Sort(lines)
	drops, err := e.x.Drops()
	check(e.t, err)
	replies, err := e.x.lb.Replies()
	check(e.t, err)
	flows, err := e.x.lb.StoredFlows()
	check(e.t, err)
	return fmt.Sprint(lines, drops, replies, flows)
}

func tcpTo(to string) Question {
	from := "198.51.100.200:4243"
	if strings.HasPrefix(to, "[") {
		from = "[2001:db8:7::1]:4242"
	}
	return Question{From: netip.MustParseAddrPort(from), To: netip.MustParseAddrPort(to)}
}

func syn(q Question) Question {
	q.SYN = true
	return q
}

func sized(q Question, size int) Question {
	q.Size = size
	return q
}

func udp(q Question) Question {
	q.Protocol = "udp"
	return q
}

func echoTo(to string) Question {
	from := "198.51.100.200"
	if strings.Contains(to, ":") {
		from = "2001:db8:7::1"
	}
	return Question{From: netip.AddrPortFrom(addr(from), 0), To: netip.AddrPortFrom(addr(to), 0), Protocol: EchoRequest}
}

func title(r *ToReal) string {
	if r == nil {
		return "none"
	}
	return r.Title()
}

// lines is the gist of an answer.
func (a Answer) lines() []string {
	first := string(a.Fate)
	if a.Reason != "" {
		first += " " + a.Reason
	}
	lines := []string{first}
	if a.VIP != nil {
		lines = append(lines, fmt.Sprintf("vip %s of %s", a.VIP.Name, a.VIP.Farm))
	}
	if s := a.Slot; s != nil {
		line := fmt.Sprintf("slot %s %s", title(s.Primary), title(s.Secondary))
		if s.Method != "" {
			line += " " + s.Method
		}
		if s.Followed {
			line += " stored " + title(s.Stored)
		}
		lines = append(lines, line)
	}
	if a.Real != nil {
		lines = append(lines, "real "+title(a.Real)+" then "+title(a.Second))
	}
	if s := a.Sent; s != nil {
		lines = append(lines, fmt.Sprintf("%s %v %v %v, %d of %d by %s, %v", s.Forward, s.Source, s.Destination, s.SecondHop, s.Size, s.MTU, s.Uplink, s.VLANs))
	}
	return lines
}

// TestExplain asks the loaded program, in the steady state and otherwise.
func TestExplain(t *testing.T) {
	mx1, mx2 := realID{"smtp", "mx1"}, realID{"smtp", "mx2"}
	imap1 := realID{"imap", "imap1"}
	out := func(real string) string { return "ipip 198.51.100.2 " + real + " invalid IP, 60 of 1600 by lo, []" }
	cases := []struct {
		name   string
		change []func(l *loop)
		store  *Question // is stored with mx2
		ask    Question
		want   []string
		why    string
		mend   string
	}{
		{name: "in IPv4", ask: tcpTo("203.0.113.10:25"), want: []string{"forwarded", "vip smtp of smtp", "slot smtp/mx1 smtp/mx1", "real smtp/mx1 then none", out("198.51.100.9")},
			why: "one real for new and established flows"},
		{name: "in IPv6", ask: syn(tcpTo("[2001:db8:0:25::10]:25")), want: []string{"forwarded", "vip smtp6 of smtp", "slot smtp/mx2 smtp/mx2", "real smtp/mx2 then none",
			"ipip 198.51.100.2 198.51.100.10 invalid IP, 80 of 1600 by lo, []"}},
		{name: "with tags", ask: tcpTo("203.0.113.10:143"), want: []string{"forwarded", "vip imap of imap", "slot imap/imap2 imap/imap2", "real imap/imap2 then none",
			"gue 2001:db8::2 2001:db8::10 invalid IP, 92 of 1600 by lo, [7 12]"}},
		{name: "as it is", ask: udp(tcpTo("203.0.113.11:53")), want: []string{"forwarded", "vip dns of dns", "slot dns/ns1 dns/ns1", "real dns/ns1 then none",
			"l2 invalid IP invalid IP invalid IP, 28 of 1600 by lo, []"}},
		{name: "as it is to the port of gue", ask: sized(udp(tcpTo("203.0.113.11:6080")), 60), want: []string{"forwarded", "vip gue of dns", "slot dns/ns1 dns/ns1", "real dns/ns1 then none",
			"l2 invalid IP invalid IP invalid IP, 60 of 1600 by lo, []"}},
		{name: "new flow, tracked", change: []func(l *loop){func(l *loop) { l.order(mx1, KindDrain) }}, ask: syn(tcpTo("203.0.113.10:25")),
			want: []string{"forwarded", "vip smtp of smtp", "slot smtp/mx2 smtp/mx1 tracked stored none", "real smtp/mx2 then none", out("198.51.100.10")}, why: "is stored"},
		{name: "old flow, tracked", change: []func(l *loop){func(l *loop) { l.order(mx1, KindDrain) }}, ask: tcpTo("203.0.113.10:25"),
			want: []string{"forwarded", "vip smtp of smtp", "slot smtp/mx2 smtp/mx1 tracked stored none", "real smtp/mx1 then none", out("198.51.100.9")}, why: "the flow is not stored"},
		{name: "stored flow", change: []func(l *loop){func(l *loop) { l.order(mx1, KindDrain) }}, store: new(tcpTo("203.0.113.10:25")), ask: tcpTo("203.0.113.10:25"),
			want: []string{"forwarded", "vip smtp of smtp", "slot smtp/mx2 smtp/mx1 tracked stored smtp/mx2", "real smtp/mx2 then none", out("198.51.100.10")}, why: "the flow is stored with smtp/mx2"},
		{name: "stored flow followed in a steady slot", change: []func(l *loop){func(l *loop) {
			rec := l.in.states["smtp"][addr("198.51.100.9")]
			rec.Follow = epoch.Add(time.Hour)
			l.in.states["smtp"][addr("198.51.100.9")] = rec
		}}, store: new(tcpTo("203.0.113.10:25")), ask: tcpTo("203.0.113.10:25"),
			want: []string{"forwarded", "vip smtp of smtp", "slot smtp/mx1 smtp/mx1 tracked stored smtp/mx2", "real smtp/mx2 then none", out("198.51.100.10")}, why: "a change was taken back"},
		{name: "new flow, second chance", change: []func(l *loop){func(l *loop) { l.order(realID{"imap", "imap2"}, KindDrain) }}, ask: syn(tcpTo("203.0.113.10:143")),
			want: []string{"forwarded", "vip imap of imap", "slot imap/imap1 imap/imap2 second-chance", "real imap/imap1 then none",
				"gue 2001:db8::2 2001:db8::9 invalid IP, 92 of 1600 by lo, [7 12]"}, why: "a new flow goes to the slot's primary"},
		{name: "old flow, second chance", change: []func(l *loop){func(l *loop) { l.order(realID{"imap", "imap2"}, KindDrain) }}, ask: tcpTo("203.0.113.10:143"),
			want: []string{"forwarded", "vip imap of imap", "slot imap/imap1 imap/imap2 second-chance", "real imap/imap1 then imap/imap2",
				"gue 2001:db8::2 2001:db8::9 2001:db8::10, 112 of 1600 by lo, [7 12]"}, why: "imap/imap1 passes it on to imap/imap2"},
		{name: "last real drains, second chance", change: []func(l *loop){func(l *loop) { l.order(imap1, KindSuspend); l.order(realID{"imap", "imap2"}, KindDrain) }},
			ask: tcpTo("203.0.113.10:143"), want: []string{"forwarded", "vip imap of imap", "slot none imap/imap2 second-chance", "real imap/imap2 then none",
				"gue 2001:db8::2 2001:db8::10 invalid IP, 92 of 1600 by lo, [7 12]"}, why: "has no primary"},
		{name: "real that is no agent yet", change: []func(l *loop){func(l *loop) {
			l.order(realID{"imap", "imap2"}, KindDrain)
			rec := l.in.states["imap"][addr("2001:db8::9")]
			rec.Forward = ForwardIPIP
			l.in.states["imap"][addr("2001:db8::9")] = rec
		}}, ask: tcpTo("203.0.113.10:143"), want: []string{"forwarded", "vip imap of imap", "slot imap/imap1 imap/imap2 tracked stored none", "real imap/imap2 then none",
			"gue 2001:db8::2 2001:db8::10 invalid IP, 92 of 1600 by lo, [7 12]"}, why: "not both reals can be given a second chance"},
		{name: "too big", ask: sized(tcpTo("203.0.113.10:25"), 1581), want: []string{"answered", "vip smtp of smtp", "slot smtp/mx1 smtp/mx1"}, why: "told that 1580 bytes fit"},
		{name: "just fits", ask: sized(tcpTo("203.0.113.10:25"), 1580), want: []string{"forwarded", "vip smtp of smtp", "slot smtp/mx1 smtp/mx1", "real smtp/mx1 then none",
			"ipip 198.51.100.2 198.51.100.9 invalid IP, 1600 of 1600 by lo, []"}},
		{name: "too big in IPv6", ask: sized(tcpTo("[2001:db8:0:25::10]:25"), 3000), want: []string{"answered", "vip smtp6 of smtp", "slot smtp/mx2 smtp/mx2"}, why: "told that 1580 bytes fit"},
		{name: "ping", ask: echoTo("203.0.113.10"), want: []string{"answered"}, why: "a ping"},
		{name: "ping in IPv6", ask: echoTo("2001:db8:0:25::10"), want: []string{"answered"}, why: "a ping"},
		{name: "ping out of service", change: []func(l *loop){func(l *loop) { l.order(mx1, KindSuspend); l.order(mx2, KindSuspend) }}, ask: echoTo("203.0.113.10"),
			want: []string{"dropped out_of_service"}, why: "vip smtp has 0 of 1 reals that it needs", mend: "activate reals"},
		{name: "nobody", change: []func(l *loop){func(l *loop) { l.order(mx1, KindSuspend); l.order(mx2, KindSuspend) }}, ask: tcpTo("203.0.113.10:25"),
			want: []string{"dropped no_real", "vip smtp of smtp", "slot none none"}, why: "no real of farm smtp takes flows", mend: "anycastle show real"},
		{name: "nobody for new flows", change: []func(l *loop){func(l *loop) { l.order(mx1, KindSuspend); l.order(mx2, KindDrain) }}, ask: syn(tcpTo("203.0.113.10:25")),
			want: []string{"dropped no_real", "vip smtp of smtp", "slot none smtp/mx2 tracked stored none"}, why: "no real of farm smtp takes new flows"},
		{name: "another port", ask: udp(tcpTo("203.0.113.10:25")), want: []string{"passed"}, why: "no VIP on 203.0.113.10 takes udp port 25", mend: "a VIP in the node file"},
		{name: "another address", ask: tcpTo("203.0.113.99:25"), want: []string{"passed"}, why: "203.0.113.99 is no VIP's address"},
		{name: "ping to another address", ask: echoTo("2001:db8::99"), want: []string{"passed"}, why: "2001:db8::99 is no VIP's address"},
	}
	withExplained(t, func(e *explained) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				e.start(t, e.loop.in.cfg, tc.change...)
				if tc.store != nil {
					q, err := tc.store.Complete()
					check(t, err)
					check(t, e.x.lb.StoreFlow(q.flow().hash(e.x.key), uint16(e.indexOf("198.51.100.10"))))
				}
				before := e.counted()
				a := e.ask(tc.ask)
				if diff := cmp.Diff(tc.want, a.lines()); diff != "" {
					t.Errorf("answer (-want +got):\n%s", diff)
				}
				if !strings.Contains(a.Why, tc.why) || !strings.Contains(a.Mend, tc.mend) || a.Why == "" || a.Behind != "" {
					t.Errorf("why %q, mend %q, behind %q; want %q and %q", a.Why, a.Mend, a.Behind, tc.why, tc.mend)
				}
				if after := e.counted(); after != before {
					t.Errorf("asking has changed\n%s\nto\n%s", before, after)
				}
			})
		}
	})
}

func (e *explained) indexOf(real string) uint32 {
	for i, r := range e.loop.have.reals {
		if r.addr == addr(real) {
			return i
		}
	}
	e.t.Fatalf("%s is not installed", real)
	return none
}

// TestExplainBeforeAllIsKnown has tables of an earlier process, or none, or a change that did not succeed.
func TestExplainBeforeAllIsKnown(t *testing.T) {
	withExplained(t, func(e *explained) {
		if a := e.ask(tcpTo("203.0.113.10:25")); a.Real.State != StateActive || a.Real.NextHop == "" || a.Real.Since.IsZero() || !a.VIP.InService {
			t.Errorf("real %+v, vip %+v", a.Real, a.VIP)
		}
		e.loop.failed = errFake
		if a := e.ask(tcpTo("203.0.113.10:25")); a.Behind != "the last change did not succeed, and is tried again: refused" {
			t.Errorf("behind %q", a.Behind)
		}
		// the next hop of all reals is lost, and that is not yet known to their states
		for addr := range e.loop.in.hops {
			e.loop.in.hops[addr] = Hop{Why: "no answer"}
		}
		e.install()
		a := e.ask(tcpTo("203.0.113.10:25"))
		if a.Reason != "no_next_hop" || !strings.Contains(a.Why, "next hop of smtp/mx1 is unresolved: no answer") || a.Sent != nil {
			t.Errorf("%s: %s", a.Reason, a.Why)
		}
		// a table is missing, which the plan never lets happen
		check(t, e.x.ClearSlots(e.loop.have.vips[vipKey{addr("203.0.113.10"), 6, OnePort(25)}].farm))
		if a := e.ask(tcpTo("203.0.113.10:25")); a.Reason != "no_table" || a.Real != nil || a.Slot.Primary != nil {
			t.Errorf("%s: %+v", a.Reason, a.Slot)
		}
		e.loop.in = newInputs(e.loop.in.cfg) // another process
		e.loop.ready = false
		a = e.ask(tcpTo("203.0.113.10:143"))
		if a.Fate != Dropped || a.Real.Name == "" || a.Real.State != StateFailed || !strings.Contains(a.Behind, "the first probes have not finished") {
			t.Errorf("%s: real %+v, behind %q", a.Fate, a.Real, a.Behind)
		}
	})
}

// TestExplainAfterRealsAreGone tells of reals under the names that they had.
func TestExplainAfterRealsAreGone(t *testing.T) {
	withExplained(t, func(e *explained) {
		cfg := *e.loop.in.cfg
		cfg.Farms = slices.Clone(cfg.Farms)
		cfg.Farms[0].Reals = cfg.Farms[0].Reals[1:]
		cfg.VIPs = cfg.VIPs[1:]
		e.loop.in.setConfig(&cfg)
		e.loop.in.evolve(epoch)
		if a := e.ask(tcpTo("203.0.113.10:25")); a.VIP.Name != "" || title(a.Real) != "smtp/mx1" {
			t.Errorf("vip %+v, real %+v", a.VIP, a.Real) // not yet installed
		}
		e.install()
		q := tcpTo("[2001:db8:0:25::10]:25")
		for port := uint16(1); ; port++ {
			q.From = netip.AddrPortFrom(q.From.Addr(), port)
			a := e.ask(q)
			if a.Slot.Secondary.Address != addr("198.51.100.9") {
				continue
			}
			if s := a.Slot.Secondary; s.Name != "mx1" || s.State != StateDraining || !strings.Contains(s.Why, "removed from the config") || a.Real.Name != "mx1" {
				t.Errorf("%+v", s)
			}
			break
		}
		if a := e.ask(tcpTo("203.0.113.10:25")); a.Fate != Passed || len(a.OnAddress) != 1 || a.OnAddress[0].Name != "imap" {
			t.Errorf("%+v", a)
		}
	})
}

func TestEveryReasonHasWords(t *testing.T) {
	// what only the program of a real gives
	ofReals := []string{"not_own", "not_vip", "ecn", "no_route"}
	none, _ := dropWords("")
	for name := range bpf.Reasons() {
		why, mend := dropWords(name)
		if known := why != none && mend != ""; known == slices.Contains(ofReals, name) {
			t.Errorf("%s: %q, %q", name, why, mend)
		}
	}
}

// mustParseWithoutFiles takes a config whose certificates are nowhere.
func mustParseWithoutFiles(t *testing.T, text string) *Config {
	t.Helper()
	cfg, err := parse(t, text)
	if err != nil && !strings.Contains(err.Error(), "lb.tls") {
		t.Fatal(err)
	}
	return &cfg
}
