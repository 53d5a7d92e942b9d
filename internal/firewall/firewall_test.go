package firewall

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMerge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		in   []Ports
		want string
	}{
		{"apart", []Ports{{30, 40}, {10, 20}}, "10-20 30-40"},
		{"overlapping", []Ports{{10, 20}, {15, 30}}, "10-30"},
		{"touching", []Ports{{10, 20}, {21, 30}}, "10-30"},
		{"inside", []Ports{{10, 40}, {20, 30}, {25, 26}}, "10-40"},
		{"same", []Ports{{25, 25}, {25, 25}}, "25-25"},
		{"up to the last", []Ports{{60000, 65535}, {1, 1}, {65535, 65535}}, "1-1 60000-65535"},
	} {
		var got []string
		for _, s := range merge(portSpans(c.in)) {
			got = append(got, fmt.Sprintf("%d-%d", int(s.first[0])<<8|int(s.first[1]), int(s.last[0])<<8|int(s.last[1])))
		}
		if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.name, diff)
		}
	}
}

func TestPrefixSpans(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{
		"192.0.2.25/32":    "192.0.2.25-192.0.2.25",
		"192.0.2.16/29":    "192.0.2.16-192.0.2.23",
		"0.0.0.0/0":        "0.0.0.0-255.255.255.255",
		"2001:db8::/126":   "2001:db8::-2001:db8::3",
		"2001:db8:1::/127": "2001:db8:1::-2001:db8:1::1",
	} {
		s := prefixSpans([]netip.Prefix{netip.MustParsePrefix(prefix)})[0]
		first, _ := netip.AddrFromSlice(s.first)
		last, _ := netip.AddrFromSlice(s.last)
		if got := fmt.Sprintf("%v-%v", first, last); got != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	for _, l := range []label{
		{rule: 3, text: "tcp 25 from outside to front"}, {rule: 12, back: true, text: "udp from a to b"},
		{from: "outside", to: "back"}, {text: icmpErrors},
	} {
		if diff := cmp.Diff(l, parseLabel(l.comment()), cmp.AllowUnexported(label{})); diff != "" {
			t.Errorf("%q: -want +got\n%s", l.comment(), diff)
		}
	}
	long := label{rule: 1, text: strings.Repeat("x", 1000)}.comment()
	if len(long) != maxComment || !strings.HasSuffix(long, "...") {
		t.Errorf("a long rule becomes %d bytes: %s", len(long), long)
	}
}

// What others may have written in our table is read without harm.
func FuzzParseLabel(f *testing.F) {
	for _, seed := range []string{"allow 1 tcp", "back 0 x", "drop a b", "drop  ", "", "allow 99999999999999999999 x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, comment string) {
		l := parseLabel(comment)
		if l.rule < 0 || (l.from == "") != (l.to == "") {
			t.Errorf("%q gives %+v", comment, l)
		}
		var s Status
		s.take(comment, Count{1, 1})
		s.take(comment, Count{1, 1})
	})
}
