package gss

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/gss/message"
	"anycastle/gss/udp"
)

// udpReply gives the reply over UDP of the path that a query takes.
func (d *deciding) udpReply(l udp.Lane, query []byte, from netip.AddrPort) []byte {
	dst := make([]byte, udp.MaxReply)
	n, v := l.Fast(dst, query, from)
	if v == udp.Slow {
		n = d.Slow(dst, query, from)
	}
	return dst[:n]
}

// Random names get no more replies than one name does, whatever they lie below.
func TestFloodOfRandomNamesIsLimited(t *testing.T) {
	text := strings.Replace(nodeFile, "        web ", "        sub NS ns.sub\n        ns.sub A 192.0.2.77\n        *.w TXT wide\n"+
		"        *.c CNAME web\n        old DNAME other.example.org.\n        web ", 1)
	for _, signed := range []bool{false, true} {
		for what, tc := range map[string]struct {
			name string // with %d for a number
			t    uint16
		}{
			"one name":                {"other", dns.TypeMX},
			"no such name":            {"r%d", dns.TypeTXT},
			"below a delegation":      {"r%d.sub", dns.TypeTXT},
			"wildcard":                {"r%d.w", dns.TypeTXT},
			"wildcard, other type":    {"r%d.w", dns.TypeA},
			"wildcard of an alias":    {"r%d.c", dns.TypeA},
			"wildcard of a rule":      {"r%d.pop", dns.TypeA},
			"below a DNAME":           {"r%d.old", dns.TypeA},
			"no data":                 {"web", dns.TypeAAAA},
			"refused, in other zones": {"r%d.example.net.", dns.TypeA},
		} {
			t.Run(fmt.Sprintf("%s, signed %v", what, signed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { checkFlood(t, text, tc.name, tc.t, signed) })
			})
		}
	}
}

// checkFlood asks for 1000 names in a moment, which must pass no time: at 200 replies a second a machine that takes a second
// for them is let have 200 more.
func checkFlood(t *testing.T, text, names string, qtype uint16, signed bool) {
	t.Helper()
	d := newDeciding(t, text)
	if signed {
		d = newDeciding(t, strings.Replace(text, "      primary:", signedZone, 1))
		if err := d.openKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.see()
	}
	l, whole := d.Lane(0), 0
	l.Begin(time.Now())
	is := d.engine.serving().signed["mail.example.org."]
	var before uint64
	if signed {
		before = is.signer.Signed()
	}
	for i := range 1000 {
		name := strings.Replace(names, "%d", fmt.Sprint(i), 1)
		if !strings.HasSuffix(name, ".") {
			name += ".mail.example.org."
		}
		m := question(name, qtype)
		m.SetEdns0(1232, true)
		if r := d.udpReply(l, packed(t, m), netip.MustParseAddrPort("192.0.2.9:53")); r[2]&2 == 0 {
			whole++
		}
	}
	if whole != 200 {
		t.Errorf("of 1000 replies %d are whole, want 200", whole)
	}
	if signed {
		if n := is.signer.Signed() - before; n > 500 {
			t.Errorf("%d signatures were made for 200 replies", n)
		}
	}
}

// Names that are not random are counted apart, and so are those below two delegations or wildcards.
func TestOtherNamesAreNotLimited(t *testing.T) {
	text := strings.Replace(nodeFile, "        web ", "        s1 NS ns.s1\n        ns.s1 A 192.0.2.77\n        s2 NS ns.s1\n"+
		"        *.w1 TXT wide\n        *.w2 TXT wide\n        web ", 1)
	for _, pair := range [][2]string{{"other", "alias"}, {"a.s1", "a.s2"}, {"a.w1", "a.w2"}, {"a.w1", "deep"}, {"nope", "a.s1"}} {
		d := newDeciding(t, text)
		ask := func(name string) []byte {
			wire := packed(t, question(name+".mail.example.org.", dns.TypeTXT))
			return d.respond(wire, message.UDP, netip.MustParseAddrPort("198.51.100.9:53"))
		}
		for range 300 {
			ask(pair[0])
		}
		if r := ask(pair[1]); r[2]&2 != 0 {
			t.Errorf("%s is limited by a flood of %s", pair[1], pair[0])
		}
	}
}

// checkLimited wants counters of what was beyond limits, by limit and effect.
func checkLimited(t *testing.T, from prometheus.Gatherer, counts map[string]int) {
	t.Helper()
	var want strings.Builder
	fmt.Fprintln(&want, "# HELP anycastle_gss_limited_total What was beyond a limit, by limit and effect: held back, or only logged (log_only).")
	fmt.Fprintln(&want, "# TYPE anycastle_gss_limited_total counter")
	for _, effect := range []string{"held", "logged"} {
		for _, limit := range []string{"connections", "network-connections", "reply-dropped", "reply-slipped", "tcp-queries", "udp-queries"} {
			fmt.Fprintf(&want, "anycastle_gss_limited_total{effect=%q,limit=%q} %d\n", effect, limit, counts[limit+" "+effect])
		}
	}
	if err := testutil.GatherAndCompare(from, strings.NewReader(want.String()), "anycastle_gss_limited_total"); err != nil {
		t.Error(err)
	}
}

// What limits hold back is counted over reloads, apart from what they would.
func TestLimitsAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // without a moment in which more would be let through
		d := newDeciding(t, nodeFile)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister((*traffic)(d.metrics))
		var socket udp.Counters
		d.metrics.serve(func() []udp.Counters { return []udp.Counters{socket} }, d.engine.serving().limiter.Counts)
		flood := func() {
			l := d.Lane(0)
			l.Begin(time.Now())
			for i := range 300 {
				d.udpReply(l, packed(t, question([]string{"smtp", "nope"}[i%2]+".mail.example.org.", dns.TypeA)), netip.MustParseAddrPort("192.0.2.9:53"))
			}
		}
		check := func(counts map[string]int) { t.Helper(); checkLimited(t, registry, counts) }
		limits := func(text string) {
			t.Helper()
			cfg := mustDecode(t, strings.Replace(nodeFile, "  listen:", "  limits: {responses_per_second: 100"+text+"}\n  listen:", 1))
			cfg.StateDir = d.engine.serving().config.StateDir
			if err := d.Reload(cfg); err != nil {
				t.Fatal(err)
			}
			d.see()
		}
		limits("")
		flood()
		check(map[string]int{"reply-slipped held": 100})
		limits(", log_only: true")
		flood()
		check(map[string]int{"reply-slipped held": 100, "reply-slipped logged": 100})
		var shown []string
		for _, l := range d.Limits() {
			if l.Held+l.Logged > 0 {
				shown = append(shown, fmt.Sprintf("%s of %v: %v, %v", l.Limit, l.Network, l.Held > 0, l.Logged > 0))
			}
		}
		want := []string{"reply-slipped of invalid Prefix: true, true", "reply-slipped of 192.0.2.0/24: false, true"}
		if diff := cmp.Diff(want, shown); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		limits(", slip: 0")
		socket.Dropped[udp.Unwanted] = 57 // 50 of the flood
		flood()
		check(map[string]int{"reply-slipped held": 100, "reply-slipped logged": 100, "reply-dropped held": 100})
		if n := testutil.ToFloat64(d.metrics.dropped.WithLabelValues("udp", "limited")); n != 107 {
			t.Errorf("%v queries are counted as dropped, want 50 of the slow path, 50 of the fast one, and 7 more", n)
		}
	})
}
