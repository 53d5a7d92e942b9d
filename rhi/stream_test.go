package rhi

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// script is what happens to a stream, a word each: "+N" an apply of N prefixes of /32, which are 23 + 5N bytes at least;
// "W/A" a look that sees W bytes written and A acknowledged; "~" a minute passes. What each word makes written or
// acknowledged is given as "w1" for the first apply, and so on.
func script(text string) string {
	s, now, number, names := &stream{}, time.Unix(0, 0), 0, map[*batch]string{}
	var c tcpCount
	var got []string
	for _, word := range strings.Fields(text) {
		var count int
		switch {
		case word == "~":
			now = now.Add(giveUp)
		case strings.HasPrefix(word, "+"):
			fmt.Sscanf(word, "+%d", &count)
			var records []*record
			for range count {
				records = append(records, &record{Sent: Sent{Prefix: prefixes(vip)[0]}})
			}
			if number++; s.add(records, c, now) {
				names[s.waiting[len(s.waiting)-1]] = fmt.Sprint(number)
			}
		default:
			fmt.Sscanf(word, "%d/%d", &c.written, &c.acked)
			written, acked := s.step(c, now)
			for _, b := range written {
				got = append(got, "w"+names[b])
			}
			for _, b := range acked {
				got = append(got, "a"+names[b])
			}
		}
	}
	return strings.Join(got, " ")
}

func TestStream(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, looks, want string }{
		{"nothing to wait for", "100/100 200/200", ""},
		{"at once", "100/100 +1 128/128", "w1 a1"},
		{"written, then acknowledged", "100/100 +1 100/100 150/100 150/149 150/150", "w1 a1"},
		{"a keepalive is no UPDATE", "100/100 +1 119/119 138/138", ""},
		{"keepalives before and after it", "100/100 +1 119/119 147/119 166/147 166/166", "w1 a1"},
		{"a keepalive in the same look", "100/100 +1 147/147", "w1 a1"},
		{"what follows holds nothing up", "100/100 +1 128/100 500/128", "w1 a1"},
		{"half of it", "100/100 +10 150/150 173/173", "w1 a1"},
		{"two applies in turn", "100/100 +1 +1 128/128 156/156", "w1 a1 w2 a2"},
		{"two applies in one write", "100/100 +1 +1 156/100 156/156", "w1 w2 a1 a2"},
		{"a second while the first is not acknowledged", "100/100 +1 128/100 +1 156/128 156/156", "w1 w2 a1 a2"},
		{"a keepalive between two applies", "100/100 +1 128/128 147/147 +1 166/166 175/175 203/203", "w1 a1 w2 a2"},
		{"given up", "100/100 +1 128/100 ~ 128/100 128/128", "w1"},
		{"never written, which the next does not suffer from", "100/100 +1 ~ 100/100 +1 128/128", "w2 a2"},
	} {
		if got := script(c.looks); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	if got := script(strings.Repeat("+1 ", maxWaiting+1) + "99999/99999"); strings.Count(got, "a") != maxWaiting {
		t.Errorf("more than %d applies wait: %s", maxWaiting, got)
	}
}

// fakeCapability is as long as it says.
type fakeCapability int

func (c fakeCapability) Serialize() ([]byte, error) { return make([]byte, c), nil }

func TestOpeningSize(t *testing.T) {
	t.Parallel()
	// RFC 4271 4.2: an OPEN has 29 bytes, and 2 before the capabilities of a parameter; a KEEPALIVE has 19
	if got := openingSize([]fakeCapability{2, 6, 8}); got != 29+2+16+19 {
		t.Errorf("got %d", got)
	}
}
