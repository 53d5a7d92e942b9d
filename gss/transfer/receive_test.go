package transfer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
)

// recordsOf makes records of words: a number is the SOA record with that serial, any other a host.
func recordsOf(t testing.TB, words string) (rrs []dns.RR) {
	t.Helper()
	for _, w := range strings.Fields(words) {
		text := w + ".example.org. 60 A 192.0.2.1"
		if strings.Trim(w, "0123456789") == "" {
			text = "example.org. 60 SOA ns.example.org. h.example.org. " + w + " 3600 600 86400 5"
		} else if name, ttl, ok := strings.Cut(w, "/"); ok {
			text = name + ".example.org. " + ttl + " A 192.0.2.1"
		} else if w == "other" {
			text = "example.net. 60 SOA ns.example.org. h.example.org. 3 3600 600 86400 5"
		}
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

// What is transferred may come in any number of messages.
func TestIncoming(t *testing.T) {
	for name, tc := range map[string]struct {
		serial  uint32 // that we have; 0: AXFR
		records string
		want    string
	}{
		"whole":                     {0, "3 a b 3", "axfr 3 whole 3"},
		"whole, nothing else":       {0, "3 3", "axfr 3 whole 1"},
		"whole, unfinished":         {0, "3 a b", "unfinished"},
		"whole, one record":         {0, "3", "unfinished"},
		"whole, changed in between": {0, "3 a 4", "broken"},
		"whole, more":               {0, "3 a 3 b", "broken"},
		"whole, no SOA":             {0, "a b 3", "broken"},
		"whole, another's SOA":      {0, "3 a other", "broken"},
		"whole in place of parts":   {1, "3 a b 3", "axfr 3 whole 3"},
		"nothing newer":             {3, "3", "none 3"},
		"older":                     {4, "3", "none 3"},
		"one part":                  {1, "3 1 a 3 b 3", "ixfr 3 1-3"},
		"two parts":                 {1, "3 1 a 2 b 2 c 3 d 3", "ixfr 3 1-2 2-3"},
		"nothing but serials":       {1, "3 1 2 2 3 3", "ixfr 3 1-2 2-3"},
		"parts with a gap":          {1, "4 1 a 2 b 3 c 4 d 4", "broken"},
		"parts backwards":           {1, "3 1 a 0 b 3", "broken"},
		"parts that go on":          {1, "3 1 a 3 b 3 c", "broken"},
		"parts, unfinished":         {1, "3 1 a 3 b", "unfinished"},
		"parts, another's SOA":      {1, "3 1 a other", "broken"},
		"parts of another version":  {2, "3 1 a 3 b 3", "broken"}, // taken for a whole one, which has no other serial in it
		"round the top":             {4294967295, "1 4294967295 a 1 b 1", "ixfr 1 4294967295-1"},
	} {
		t.Run(name, func(t *testing.T) {
			rrs := recordsOf(t, tc.records)
			whole := 0
			in := incoming{origin: "example.org.", max: DefaultMaxSize, incremental: tc.serial != 0, serial: tc.serial, whole: func(dns.RR) { whole++ }}
			var err error
			for _, rr := range rrs {
				if err = in.take(rr); err != nil {
					break
				}
			}
			got := "unfinished"
			switch {
			case errors.Is(err, ErrBroken):
				got = "broken"
			case in.message():
				got = fmt.Sprintf("%s %d", in.kind, in.soa.Serial)
				if in.kind == Whole {
					got += fmt.Sprintf(" whole %d", whole)
				}
				for _, d := range in.deltas {
					got += fmt.Sprintf(" %d-%d", d.From.Serial, d.To.Serial)
				}
			}
			if got != tc.want {
				t.Errorf("it is %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestApply(t *testing.T) {
	base := version(t, 1, "a 192.0.2.1", "b 192.0.2.1")
	for name, tc := range map[string]struct {
		records string
		want    string // hosts; "mismatch"
	}{
		"one goes, one comes": {"2 1 a 2 c 2", "b c"},
		"goes and comes":      {"3 1 a 2 2 3 a 3", "a b"},
		"comes and goes":      {"3 1 2 c 2 c 3 3", "a b"},
		"comes, goes, comes":  {"4 1 2 c 2 c 3 3 4 c 4", "a b c"},
		"other TTL":           {"2 1 a 2 a/90 2", "a b"},
		"TTL is no matter":    {"2 1 a/7 2 2", "b"},
		"what is not there":   {"2 1 c 2 2", "mismatch"},
		"what is there":       {"2 1 2 a 2", "mismatch"},
		"goes twice":          {"3 1 a 2 2 a 3 3", "mismatch"},
		"comes twice":         {"3 1 2 c 2 3 c 3", "mismatch"},
		"there, comes, goes":  {"3 1 2 a 2 a 3 3", "mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			in := incoming{origin: "example.org.", max: DefaultMaxSize, incremental: true, serial: 1}
			for _, rr := range recordsOf(t, tc.records) {
				if err := in.take(rr); err != nil {
					t.Fatal(err)
				}
			}
			seq, err := apply(base, in.deltas)
			if errors.Is(err, ErrMismatch) {
				if tc.want != "mismatch" {
					t.Error(err)
				}
				return
			}
			z, err := zone.Build("example.org.", seq)
			if err != nil {
				t.Fatal(err)
			}
			var hosts []string
			for rr := range z.All(nil) {
				if name, _, _ := strings.Cut(rr.Header().Name, "."); len(name) == 1 {
					hosts = append(hosts, name)
				}
			}
			if got := strings.Join(hosts, " "); got != tc.want || z.Serial() != in.soa.Serial {
				t.Errorf("the hosts are %q with serial %d, want %q", got, z.Serial(), tc.want)
			}
		})
	}
	if _, err := apply(version(t, 7), []Delta{{From: base.SOA(), To: base.SOA()}}); !errors.Is(err, ErrMismatch) {
		t.Errorf("parts of another version give %v", err)
	}
}

// FuzzIncoming has any message be one of a transfer, and wants what comes of it to be in order.
func FuzzIncoming(f *testing.F) {
	for _, words := range []string{"3 a b 3", "3 1 a 2 b 2 c 3 d 3", "3", "3 1 a 3 b 3"} {
		m := dns.Msg{Answer: recordsOf(f, words), Compress: true}
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire, uint32(1))
	}
	base := version(f, 1, "a 192.0.2.1", "b 192.0.2.1")
	f.Fuzz(func(t *testing.T, wire []byte, serial uint32) {
		m, err := unpack(wire)
		if err != nil {
			return
		}
		var whole []dns.RR
		in := incoming{
			max:    DefaultMaxSize,
			origin: "example.org.", incremental: serial != 0, serial: serial, whole: func(rr dns.RR) { whole = append(whole, rr) },
		}
		for _, rr := range m.Answer {
			if in.take(rr) != nil {
				return
			}
		}
		if !in.message() {
			return
		}
		var z *zone.Zone
		switch in.kind {
		case Whole:
			z, err = zone.Build("example.org.", slices.Values(whole))
		case Incremental:
			seq, wrong := apply(base, in.deltas)
			if wrong != nil {
				return
			}
			z, err = zone.Build("example.org.", seq)
		default:
			return
		}
		if err == nil && z.Serial() != in.soa.Serial {
			t.Errorf("a zone with serial %d comes of a transfer of %d", z.Serial(), in.soa.Serial)
		}
	})
}
