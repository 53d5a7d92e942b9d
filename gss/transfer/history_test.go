package transfer

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
)

func TestNewer(t *testing.T) {
	for _, tc := range []struct {
		a, b uint32
		want bool
	}{
		{2, 1, true}, {1, 2, false}, {1, 1, false}, {0, 0xffffffff, true}, {0xffffffff, 0, false},
		{0x80000000, 0, false}, {0, 0x80000000, false}, {0x7fffffff, 0, true}, {0x80000001, 1, false}, {5, 0x80000006, true},
	} {
		if got := Newer(tc.a, tc.b); got != tc.want {
			t.Errorf("%d is newer than %d: %v", tc.a, tc.b, got)
		}
	}
}

// history takes versions, each with what is dynamic.
func history(t *testing.T, versions ...*zone.Zone) *History {
	t.Helper()
	h := NewHistory()
	for _, z := range versions {
		if err := h.Take(z, ""); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestHistory(t *testing.T) {
	hosts := many(50)
	v := func(serial uint32, extra ...string) *zone.Zone {
		return version(t, serial, append(slices.Clone(hosts), extra...)...)
	}
	last := v(4, "b 192.0.2.2", "c 192.0.2.3")
	h := history(t, v(1, "a 192.0.2.1"), v(2, "a 192.0.2.1", "b 192.0.2.2"), v(3, "b 192.0.2.3"), last)
	for serial, want := range map[uint32]struct {
		kind  Kind
		count int
	}{
		1: {Incremental, 2 + 3 + 4 + 1 + 4}, 2: {Incremental, 2 + 5 + 5}, 3: {Incremental, 2 + 5}, 4: {None, 1}, 5: {None, 1},
		0: {Whole, 56}, 0x80000005: {Whole, 56},
	} {
		kind, seq := h.Answer(last, nil, serial)
		got := slices.Collect(seq)
		if kind != want.kind {
			t.Errorf("from serial %d it is %s with %d records, want %s", serial, kind, len(got), want.kind)
		}
		first, end := got[0].(*dns.SOA), got[len(got)-1].(*dns.SOA)
		if first.Serial != 4 || end.Serial != 4 {
			t.Errorf("from serial %d it begins with %v and ends with %v", serial, first, end)
		}
		for range seq {
			break // stops
		}
	}
	for _, from := range []uint32{1, 2, 3} {
		base := map[uint32]*zone.Zone{1: v(1, "a 192.0.2.1"), 2: v(2, "a 192.0.2.1", "b 192.0.2.2"), 3: v(3, "b 192.0.2.3")}[from]
		in := incoming{origin: "example.org.", max: DefaultMaxSize, incremental: true, serial: from}
		_, seq := h.Answer(last, nil, from)
		for rr := range seq {
			if err := in.take(rr); err != nil {
				t.Fatal(err)
			}
		}
		made, err := apply(base, in.deltas)
		if err != nil || in.kind != Incremental {
			t.Fatalf("from serial %d: %s, %v", from, in.kind, err)
		}
		z, err := zone.Build("example.org.", made)
		if err != nil {
			t.Fatal(err)
		}
		sameZone(t, z, last)
	}
}

// What cannot be caught up with by increments is sent whole.
func TestHistoryIsCut(t *testing.T) {
	hosts := many(50)
	v := func(serial uint32, extra ...string) *zone.Zone {
		return version(t, serial, append(slices.Clone(hosts), extra...)...)
	}
	for name, tc := range map[string]struct {
		take func(h *History) *zone.Zone
		want Kind // from serial 1
	}{
		"one more": {func(h *History) *zone.Zone {
			z := v(2, "a 192.0.2.1")
			h.Take(z, "x")
			return z
		}, Incremental},
		"the same again": {func(h *History) *zone.Zone {
			z := v(2, "a 192.0.2.1")
			h.Take(z, "x")
			h.Take(v(2, "a 192.0.2.1"), "x")
			return z
		}, Incremental},
		"serial goes back": {func(h *History) *zone.Zone {
			z := v(2, "a 192.0.2.1")
			h.Take(v(0), "x")
			h.Take(z, "x")
			return z
		}, Whole},
		"edited without a serial": {func(h *History) *zone.Zone {
			z := v(2, "a 192.0.2.1")
			if err := h.Take(v(1, "a 192.0.2.7"), "x"); !errors.Is(err, ErrSameSerial) {
				t.Errorf("an edit without a serial gives %v", err)
			}
			h.Take(z, "x")
			return z
		}, Whole},
		"rules for other names": {func(h *History) *zone.Zone {
			z := v(2, "a 192.0.2.1")
			h.Take(z, "y")
			return z
		}, Whole},
		"rules for other names, same serial": {func(h *History) *zone.Zone {
			h.Take(v(2, "a 192.0.2.1"), "x")
			z := v(2, "a 192.0.2.1")
			if err := h.Take(z, "y"); err != nil {
				t.Errorf("other rules give %v", err)
			}
			return z
		}, Whole},
		"nearly all is new": {func(h *History) *zone.Zone {
			z := version(t, 2, "z 192.0.2.1")
			h.Take(z, "x")
			return z
		}, Whole},
		"too many versions": {func(h *History) *zone.Zone {
			var z *zone.Zone
			for i := range uint32(maxVersions + 1) {
				z = v(2+i, fmt.Sprintf("a 192.0.2.%d", i+1))
				h.Take(z, "x")
			}
			return z
		}, Whole},
		"as many as are kept": {func(h *History) *zone.Zone {
			z := v(1)
			for i := range uint32(maxVersions) {
				z = v(2 + i)
				h.Take(z, "x")
			}
			return z
		}, Whole}, // 32 times 2 records are more than the zone has
		"forgotten": {func(h *History) *zone.Zone {
			z := v(2)
			h.Take(z, "x")
			h.Keep(map[string]bool{"example.net.": true})
			return z
		}, Whole},
		"kept": {func(h *History) *zone.Zone {
			z := v(2)
			h.Take(z, "x")
			h.Keep(map[string]bool{"example.org.": true})
			return z
		}, Incremental},
	} {
		h := NewHistory()
		h.Take(v(1), "x")
		z := tc.take(h)
		if kind, _ := h.Answer(z, nil, 1); kind != tc.want {
			t.Errorf("%s: it is %s, want %s", name, kind, tc.want)
		}
	}
}

func TestHistoryBoundsRecords(t *testing.T) {
	h := NewHistory()
	h.Take(version(t, 1), "")
	hosts := many(20_000)
	for i := range uint32(8) {
		z := version(t, 2+i)
		if i%2 == 0 {
			z = version(t, 2+i, hosts...)
		}
		h.Take(z, "")
	}
	if p := h.zones["example.org."]; p.size > maxChanges || len(p.deltas) != 4 {
		t.Errorf("%d records in %d versions are kept", p.size, len(p.deltas))
	}
}

// Each message is full, but not too full for names to be pointed at.
func TestBatches(t *testing.T) {
	z := version(t, 1, many(5000)...)
	count, messages := 0, 0
	for batch := range Batches(Full(z, nil)) {
		m := dns.Msg{Answer: batch, Compress: true}
		wire, err := m.Pack()
		if err != nil || len(wire) > 16<<10 {
			t.Fatalf("a message of %d bytes: %v", len(wire), err)
		}
		if count += len(batch); count < z.Len()+1 && len(wire) < 10<<10 {
			t.Errorf("a message that is not the last has only %d bytes", len(wire))
		}
		messages++
	}
	if count != z.Len()+1 || messages < 5 {
		t.Errorf("%d records in %d messages", count, messages)
	}
	for range Batches(Full(z, nil)) {
		break // stops
	}
	h := dns.RR_Header{Name: "t.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}
	big := &dns.TXT{Hdr: h, Txt: slices.Repeat([]string{string(make([]byte, 255))}, 200)}
	var sizes []int
	for batch := range Batches(slices.Values([]dns.RR{big, big, z.SOA()})) {
		sizes = append(sizes, len(batch))
	}
	if !slices.Equal(sizes, []int{1, 1, 1}) {
		t.Errorf("records too big for a common message are sent in batches of %v", sizes)
	}
}
