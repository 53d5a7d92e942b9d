package lb

import (
	"strings"
	"testing"
	"time"

	"anycastle/bpf"

	"github.com/google/go-cmp/cmp"
)

func TestCaptureSelection(t *testing.T) {
	f := newTapped(t)
	vip, real := f.indexes()
	for _, tc := range []struct {
		query  string
		filter bpf.CaptureFilter
	}{
		{"vip=smtp", bpf.CaptureFilter{Vip: vip["smtp"]}},
		{"vip=imap", bpf.CaptureFilter{Vip: vip["imap"]}},
		{"vip=2001:db8:0:25::10", bpf.CaptureFilter{Vip: vip["smtp6"]}},
		{"real=imap/imap2", bpf.CaptureFilter{Real: real["imap/imap2"]}},
		{"reason=no_real", bpf.CaptureFilter{Reason: bpf.Reasons()["no_real"]}},
		{"reason=any", bpf.CaptureFilter{Reason: bpf.AnyReason}},
		{"vip=smtp&real=smtp/mx2&reason=any", bpf.CaptureFilter{Vip: vip["smtp"], Real: real["smtp/mx2"], Reason: bpf.AnyReason}},
	} {
		res := f.get(tc.query)
		eventually(t, "a capture", f.tap.running.Load)
		tc.filter.CapLen = 256
		if diff := cmp.Diff(tc.filter, f.tap.filter); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.query, diff)
		}
		res.Body.Close()
		f.ends()
	}
	res := f.get("vip=smtp&count=1&time=1h")
	for i, name := range []string{"imap", "smtp"} { // as if the program's filter were behind
		f.give(captured(i, bpf.Trace{Vip: vip[name], Verdict: uint32(bpf.Drop), Reason: 1, Ifindex: 1}))
	}
	if got, _ := frames(t, res.Body); len(got) != 1 || !strings.Contains(got[0], "vip smtp") {
		t.Errorf("captured %q, want what is for smtp alone", got)
	}
	f.ends()
	for query, want := range map[string]string{
		"vip=pop":             "there is no vip \"pop\"; there are: dns, gue, imap, smtp, smtp6",
		"vip=203.0.113.10":    "203.0.113.10 has several VIPs; name one: imap, smtp",
		"vip=203.0.113.99":    "there is no vip \"203.0.113.99\"; there are:",
		"real=smtp/mx9":       "there is no real \"smtp/mx9\"; there are: dns/ns1, imap/imap1, imap/imap2, smtp/mx1, smtp/mx2",
		"real=mx1":            "there is no real \"mx1\"; there are:",
		"reason=nothing":      "there is no reason \"nothing\"; there are: any, bad_header,",
		"reason=none":         "there is no reason",
		"count=0":             "0 packets: a capture takes 1 to 1000000",
		"count=1000001":       "a capture takes",
		"count=many":          "count: \"many\" is no number",
		"time=61m":            "1h1m0s: a capture lasts at most 1h0m0s",
		"time=-1s":            "a capture lasts at most",
		"time=30":             "or no time such as 30s",
		"snap=0":              "0 bytes: a capture keeps 1 to 2048",
		"snap=2049":           "a capture keeps",
		"farm=smtp":           "a capture has no \"farm\"; it has vip, real, reason, count, time and snap",
		"vip=smtp&vip=imap":   "\"vip\": give it once",
		"vip=":                "\"vip\": give it once, and a value",
		"vip=%zz":             "read the query",
		"vip=smtp;reason=any": "read the query",
	} {
		if got := f.refusal(query); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	f.loop.have = newTables()
	if got := f.refusal("vip=smtp"); !strings.Contains(got, "the first probes have not finished") {
		t.Errorf("before anything is installed: %q", got)
	}
}

// TestCaptureSelectsAgain has packets that passed the program's filter and are not asked for all the same.
func TestCaptureSelectsAgain(t *testing.T) {
	n := names{vips: map[uint32]namedVIP{0: {name: "smtp", farm: "smtp"}, 1: {name: "imap", farm: "imap"}},
		reals: map[uint32]namedReal{7: {by: map[string]string{"smtp": "mx1", "imap": "imap1"}}}}
	for _, tc := range []struct {
		name  string
		query CaptureQuery
		trace bpf.Trace
		want  bool
	}{
		{"real", CaptureQuery{Real: "smtp/mx1"}, bpf.Trace{Vip: 1, Real: 7}, true},
		{"second hop", CaptureQuery{Real: "smtp/mx1"}, bpf.Trace{Vip: 1, Real: 6, Second: 7}, true},
		{"real of what has no VIP", CaptureQuery{Real: "smtp/mx1"}, bpf.Trace{Real: 7}, true},
		{"real of a VIP that has gone", CaptureQuery{Real: "smtp/mx1"}, bpf.Trace{Vip: 9, Real: 7}, true},
		{"the same server in another farm", CaptureQuery{Real: "smtp/mx1"}, bpf.Trace{Vip: 2, Real: 7}, false},
		{"another real", CaptureQuery{Real: "smtp/mx1"}, bpf.Trace{Vip: 1, Real: 6}, false},
		{"vip", CaptureQuery{VIP: "smtp"}, bpf.Trace{Vip: 1}, true},
		{"another vip", CaptureQuery{VIP: "smtp"}, bpf.Trace{Vip: 2}, false},
		{"no vip", CaptureQuery{VIP: "smtp"}, bpf.Trace{}, false},
		{"reason", CaptureQuery{Reason: "no_real"}, bpf.Trace{Reason: bpf.Reasons()["no_real"]}, true},
		{"another reason", CaptureQuery{Reason: "no_real"}, bpf.Trace{Reason: bpf.Reasons()["no_table"]}, false},
		{"any reason", CaptureQuery{Reason: AnyReason}, bpf.Trace{Reason: bpf.Reasons()["no_table"]}, true},
		{"no drop", CaptureQuery{Reason: AnyReason}, bpf.Trace{Vip: 1}, false},
	} {
		s, err := n.selection(tc.query)
		check(t, err)
		if got := s.selects(&tc.trace, n); got != tc.want {
			t.Errorf("%s: selected %v", tc.name, got)
		}
	}
	if got := n.fate(&bpf.Trace{Vip: 2, Real: 7, Verdict: uint32(bpf.TX)}); got != "forwarded to imap/imap1; vip imap" {
		t.Errorf("the same server in another farm: %s", got)
	}
}

func TestCaptureQueryBecomesAPath(t *testing.T) {
	for _, q := range []CaptureQuery{
		DefaultCapture(), MostCaptured(),
		{VIP: "a b&c", Real: "farm/real", Reason: AnyReason, Count: 7, Time: 1500 * time.Millisecond, Snap: 1},
	} {
		_, raw, _ := strings.Cut(q.Path(), "?")
		got, err := parseCaptureQuery(raw)
		if err != nil || got != q {
			t.Errorf("%s gives %+v, %v; want %+v", q.Path(), got, err, q)
		}
	}
	if got, err := parseCaptureQuery(""); err != nil || got != DefaultCapture() {
		t.Errorf("an empty query gives %+v, %v", got, err)
	}
}

func FuzzCaptureQuery(f *testing.F) {
	f.Add("vip=smtp&real=smtp%2Fmx1&reason=any&count=1&time=1s&snap=1")
	f.Add("count=-1")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseCaptureQuery(raw)
		if err != nil {
			return
		}
		if err := q.Validate(); err != nil {
			t.Fatalf("%q is taken: %v", raw, err)
		}
		_, again, _ := strings.Cut(q.Path(), "?")
		if back, err := parseCaptureQuery(again); err != nil || back != q {
			t.Fatalf("%q: %+v comes back as %+v, %v", raw, q, back, err)
		}
	})
}
