package limit

import (
	"net/netip"
	"testing"
	"time"
)

// Ticks wrap after 20 days.
func TestTicksWrap(t *testing.T) {
	l := newLimiter(t, func(c *Config) { c.Slip = 0 })
	wrap := testStart.Add(tick << tickBits)
	r := Reply{To: victim}
	flood(l, r, wrap.Add(-time.Second), 1000, time.Second)
	if v := l.Decide(wrap.Add(time.Second), r); v != Drop {
		t.Errorf("a second after the wrap: %v", v)
	}
	if v := l.Decide(wrap.Add(time.Minute), r); v != Send {
		t.Errorf("a minute after it: %v", v)
	}
}

// A bucket that nobody has used, or not for long, has no debt, whatever the ticks are; nor do queries over streams.
func TestOldBucketsHaveNoDebt(t *testing.T) {
	const wrap = tick << tickBits
	small := func(c *Config) { c.TableSize = 1 << 14 }
	ask := func(l *Limiter, at time.Duration) (held int) {
		for i := range 1000 {
			from, now := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), testStart.Add(at)
			if l.Decide(now, Reply{To: from, Name: uint64(i) * 0x9e3779b97f4a7c15}) != Send || !l.Query(now, from, true) {
				held++
			}
		}
		return held
	}
	for _, used := range []time.Duration{0, time.Hour, wrap / 2, wrap - time.Minute} {
		for _, wraps := range []time.Duration{1, 2, 7} {
			for _, seconds := range []time.Duration{-90, -70, -30, -10, 0, 1} {
				at := wraps*wrap + seconds*time.Second
				if held := ask(newLimiter(t, small), at); held > 0 {
					t.Errorf("%d of the 1000 first queries are held back after %v", held, at)
				}
				l := newLimiter(t, small)
				ask(l, used)
				if held := ask(l, used+at); held > 0 {
					t.Errorf("%d of 1000 are held back %v after the last time, which was after %v", held, at, used)
				}
			}
		}
	}
}

// Buckets are swept while some are in use: those keep their debts, and the others do not come back with one.
func TestSweepsKeepDebts(t *testing.T) {
	l := newLimiter(t, func(c *Config) { c.TableSize, c.Slip = 1<<15, 0 })
	other := netip.MustParseAddr("203.0.113.1")
	for i := range 24 { // three wraps
		edge := testStart.Add(time.Duration(i+1) * tick << epochBits)
		flood(l, Reply{To: victim}, edge.Add(-2*time.Second), 1000, 2*time.Second)
		if v := l.Decide(edge.Add(time.Millisecond), Reply{To: victim}); v != Drop {
			t.Errorf("a flood before sweep %d: %v after it", i, v)
		}
		if v := l.Decide(edge.Add(-time.Millisecond), Reply{To: victim}); v != Drop {
			t.Errorf("a flood before sweep %d: %v for who is late", i, v)
		}
		if v := l.Decide(edge, Reply{To: other, Name: uint64(i % 2)}); v != Send {
			t.Errorf("who has asked nothing since sweep %d: %v", i-2, v)
		}
	}
}
