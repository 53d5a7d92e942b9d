package limit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anycastle/internal/config"
)

var (
	testStart = time.Unix(1_700_000_000, 0)
	testSeed  = Seed{0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 0xd6e8feb86659fd93}
	victim    = netip.MustParseAddr("192.0.2.53")
)

func newLimiter(t testing.TB, change func(*Config)) *Limiter {
	t.Helper()
	var c Config
	c.SetDefaults()
	if change != nil {
		change(&c)
	}
	if err := config.Check("gss", c.Validate); err != nil {
		t.Fatal(err)
	}
	return New(c, testSeed, testStart)
}

// flood sends equal replies at a steady pace for a time, and counts what becomes of them.
func flood(l *Limiter, r Reply, from time.Time, perSecond int, d time.Duration) (n [3]int) {
	step := time.Second / time.Duration(perSecond)
	for at := time.Duration(0); at < d; at += step {
		n[l.Decide(from.Add(at), r)]++
	}
	return n
}

func TestBelowTheRate(t *testing.T) {
	l := newLimiter(t, func(c *Config) { c.ResponsesPerSecond = 100 })
	for _, to := range []string{"192.0.2.1", "2001:db8::1"} {
		r := Reply{To: netip.MustParseAddr(to), Name: l.NameHash("www.example.org.")}
		if n := flood(l, r, testStart, 100, time.Minute); n[Slip]+n[Drop] != 0 {
			t.Errorf("%s: %v", to, n)
		}
	}
}

// A flood is let have what a second's credit holds, then nothing until it has stopped for the window.
func TestFlood(t *testing.T) {
	l := newLimiter(t, func(c *Config) { c.ResponsesPerSecond, c.Window, c.Slip = 100, 10*time.Second, 0 })
	r := Reply{To: victim, Name: l.NameHash("www.example.org.")}
	if n := flood(l, r, testStart, 1000, 20*time.Second); n[Send] < 100 || n[Send] > 112 || n[Slip] != 0 {
		t.Errorf("flood: %v", n)
	}
	// its debt is the window and a second; it may have one more when a second's worth less one is left
	end := testStart.Add(20 * time.Second)
	if v := l.Decide(end.Add(9900*time.Millisecond), r); v != Drop {
		t.Errorf("9.9 s after it has stopped: %v", v)
	}
	if v := l.Decide(end.Add(10200*time.Millisecond), r); v != Send {
		t.Errorf("10.2 s after it has stopped: %v", v)
	}
	if n := flood(l, r, end.Add(time.Minute), 1000, 100*time.Millisecond); n[Send] != 100 {
		t.Errorf("a burst a minute later: %v", n)
	}
}

func TestSlip(t *testing.T) {
	for _, slip := range []int{0, 1, 2, 3, 7, 10} {
		t.Run(fmt.Sprint(slip), func(t *testing.T) {
			l := newLimiter(t, func(c *Config) { c.ResponsesPerSecond, c.Slip = 10, slip })
			r := Reply{To: victim}
			flood(l, r, testStart, 1000, time.Second)
			n := flood(l, r, testStart.Add(time.Second), 1000, 2100*time.Millisecond)
			want := 0
			if slip > 0 {
				want = 2100 / slip
			}
			if n[Send] != 0 || n[Slip] != want || n[Drop] != 2100-want {
				t.Errorf("send, slip, drop: %v; want %d slips", n, want)
			}
		})
	}
}

// A flood that is spread over many names is bounded by what goes to a network as a whole.
func TestManyNames(t *testing.T) {
	for _, equal := range []int{0, 10} {
		l := newLimiter(t, func(c *Config) { c.ResponsesPerSecond, c.NetworkResponsesPerSecond = equal, 100 })
		var n [3]int
		for i := range 10_000 {
			r := Reply{To: victim, Kind: Kind(i % 2), Name: uint64(i % 500)}
			n[l.Decide(testStart.Add(time.Duration(i)*100*time.Microsecond), r)]++
		}
		if n[Send] < 100 || n[Send] > 105 || n[Drop] != 0 {
			t.Errorf("with %d equal ones: send, slip, drop %v in a second; want 100 and the rest slipped", equal, n)
		}
		other := Reply{To: netip.MustParseAddr("198.51.100.1")}
		if v := l.Decide(testStart.Add(time.Second), other); v != Send {
			t.Errorf("another network: %v", v)
		}
	}
}

// What is counted together, and what apart.
func TestBuckets(t *testing.T) {
	name := func(l *Limiter, s string) uint64 { return l.NameHash(s) }
	base := Reply{To: victim, Kind: Answer}
	for _, tc := range []struct {
		name   string
		other  func(l *Limiter, r *Reply)
		apart  bool
		trust  bool
		kind   Kind
		config func(*Config)
	}{
		{name: "the same", other: func(*Limiter, *Reply) {}},
		{name: "same /24", other: func(_ *Limiter, r *Reply) { r.To = netip.MustParseAddr("192.0.2.254") }},
		{name: "IPv4 in IPv6 form", other: func(_ *Limiter, r *Reply) { r.To = netip.MustParseAddr("::ffff:192.0.2.1") }},
		{name: "next /24", other: func(_ *Limiter, r *Reply) { r.To = netip.MustParseAddr("192.0.3.53") }, apart: true},
		{name: "same /24, limits by /28", other: func(_ *Limiter, r *Reply) { r.To = netip.MustParseAddr("192.0.2.254") }, apart: true,
			config: func(c *Config) { c.IPv4Prefix = 28 }},
		{name: "other name", other: func(l *Limiter, r *Reply) { r.Name = name(l, "b.example.org.") }, apart: true},
		{name: "other kind", other: func(_ *Limiter, r *Reply) { r.Kind = NoData }, apart: true},
		{name: "failures of two names", other: func(l *Limiter, r *Reply) { r.Name = name(l, "b.example.org.") }, kind: Failure},
		{name: "trusted", other: func(_ *Limiter, r *Reply) { r.Trusted = true }, apart: true},
		{name: "exempt", other: func(_ *Limiter, r *Reply) {}, apart: true,
			config: func(c *Config) { c.Exempt = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/26")} }},
		{name: "another exempt", other: func(_ *Limiter, r *Reply) {},
			config: func(c *Config) { c.Exempt = []netip.Prefix{netip.MustParsePrefix("192.0.2.64/26")} }},
		{name: "log only", other: func(_ *Limiter, r *Reply) {}, apart: true, config: func(c *Config) { c.LogOnly = true }},
		{name: "off", other: func(_ *Limiter, r *Reply) {}, apart: true, config: func(c *Config) { c.ResponsesPerSecond = 0 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLimiter(t, tc.config)
			r := base
			r.Kind, r.Name = tc.kind, name(l, "a.example.org.")
			flood(l, r, testStart, 1000, time.Second)
			tc.other(l, &r)
			if got := l.Decide(testStart.Add(time.Second), r); (got == Send) != tc.apart {
				t.Errorf("%v", got)
			}
		})
	}
	l := newLimiter(t, nil)
	six := Reply{To: netip.MustParseAddr("2001:db8:1:100::1")}
	flood(l, six, testStart, 1000, time.Second)
	for addr, apart := range map[string]bool{"2001:db8:1:1ff:ffff::": false, "2001:db8:1:200::1": true, "2001:db8:2:100::1": true} {
		six.To = netip.MustParseAddr(addr)
		if got := l.Decide(testStart.Add(time.Second), six); (got == Send) != apart {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// exact is the same rule with a bucket for each key.
type exact map[[2]uint64]time.Duration

// send says whether a key may have a reply, at a time since the start.
func (e exact) send(l *Limiter, r Reply, at time.Duration) bool {
	k := [2]uint64{l.network(r.To), r.Name}
	cost, most := time.Duration(l.replyRate.cost)*tick, time.Duration(l.replyRate.most)*tick
	debt := max(e[k]-at, 0) + cost
	e[k] = at + min(debt, most)
	return debt <= time.Duration(l.replyRate.burst)*tick
}

// No flood from forged addresses makes the table forget what a network owes: whatever exact buckets would hold back is held
// back. The table is far too small on purpose, and the flood is random but for the victims.
func TestForgedFloodSetsNobodyFree(t *testing.T) {
	for seed, rate := range []int{2, 5, 20, 50} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			t.Parallel()
			l := newLimiter(t, func(c *Config) { c.TableSize, c.ResponsesPerSecond, c.Window = 1024, rate, 5*time.Second })
			rng, model := rand.New(rand.NewPCG(uint64(seed), 1)), exact{}
			var freed, early, victims int
			at := time.Duration(0)
			for range 100_000 {
				at += time.Duration(rng.IntN(100)) * time.Microsecond // 20,000 a second
				// the victims get from half of the rate to many times of it
				r := Reply{To: netip.AddrFrom4([4]byte{198, 18, byte(rng.ExpFloat64() * 20), 1}), Name: uint64(rng.IntN(4))}
				if forged := rng.IntN(4) > 0; forged {
					r.To = netip.AddrFrom4([4]byte{byte(1 + rng.IntN(200)), byte(rng.IntN(256)), byte(rng.IntN(256)), 1})
				} else {
					victims++
				}
				want, got := model.send(l, r, at), l.Decide(testStart.Add(at), r) == Send
				if got && !want {
					freed++
				}
				if want && !got {
					early++
				}
			}
			if freed > 0 {
				t.Errorf("%d replies went out that exact buckets hold back", freed)
			}
			if victims < 10_000 {
				t.Errorf("only %d queries in the victims' names", victims)
			}
			t.Logf("%d of 100,000 held back that exact buckets let go", early)
		})
	}
}

// With a table that is large enough for the flood, hardly anyone pays for it.
func TestForgedFloodHurtsFew(t *testing.T) {
	l := newLimiter(t, func(c *Config) { c.TableSize = 1 << 15 })
	rng := rand.New(rand.NewPCG(7, 7))
	name := l.NameHash("www.example.org.")
	honest := make([]netip.Addr, 200)
	for i := range honest {
		honest[i] = netip.AddrFrom4([4]byte{203, 0, byte(i), 7})
	}
	var asked, hurt, escaped int
	const rate = 200_000 // forged queries a second: two a bucket and second
	for i := range 2 * rate {
		now := testStart.Add(time.Duration(i) * time.Second / rate)
		var forged netip.Addr
		if i%4 == 0 {
			forged = victim
		} else {
			forged = netip.AddrFrom4([4]byte{byte(1 + rng.IntN(190)), byte(rng.IntN(256)), byte(rng.IntN(256)), 9})
		}
		if v := l.Decide(now, Reply{To: forged, Name: name}); v == Send && forged == victim {
			escaped++
		}
		if i%100 == 0 { // 20 a second each
			asked++
			if l.Decide(now, Reply{To: honest[asked%len(honest)], Name: name}) != Send {
				hurt++
			}
		}
	}
	if escaped > 210 {
		t.Errorf("the victim got %d replies in 2 s", escaped)
	}
	if hurt > asked/1000 {
		t.Errorf("%d of %d honest queries were held back", hurt, asked)
	}
	t.Logf("victim got %d replies; %d of %d honest queries were held back", escaped, hurt, asked)
}

// Where the flood is too large for the table, the unknown are held back, not let go.
func TestFullTableHoldsBack(t *testing.T) {
	l := newLimiter(t, func(c *Config) { c.TableSize, c.ResponsesPerSecond = 1024, 1 })
	for i := range 1 << 16 {
		l.Decide(testStart.Add(time.Duration(i)*time.Microsecond), Reply{To: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})})
	}
	sent := 0
	for i := range 100 {
		if l.Decide(testStart.Add(time.Second), Reply{To: netip.AddrFrom4([4]byte{203, 0, byte(i), 1})}) == Send {
			sent++
		}
	}
	if sent > 0 {
		t.Errorf("%d of 100 were let go", sent)
	}
}

// Callers look at the clock once in a batch: one is always a little behind another.
func TestClocksOfCallersDiffer(t *testing.T) {
	l := newLimiter(t, nil)
	r := Reply{To: victim}
	now := testStart.Add(time.Hour)
	flood(l, r, now, 1000, 30*time.Second)
	for _, behind := range []time.Duration{0, time.Millisecond, time.Second, 59 * time.Second} {
		if v := l.Decide(now.Add(30*time.Second-behind), r); v == Send {
			t.Errorf("%v behind: %v", behind, v)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	l := newLimiter(t, func(c *Config) { c.TableSize, c.ResponsesPerSecond = 1024, 50 })
	var sent atomic.Int64
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				now := testStart.Add(time.Duration(i) * 10 * time.Microsecond)
				if l.Decide(now, Reply{To: victim, Name: 1}) == Send {
					sent.Add(1)
				}
				l.Decide(now, Reply{To: netip.AddrFrom4([4]byte{byte(g), byte(i >> 8), byte(i), 1})})
				l.Query(now, victim, true)
				if i%100 == 0 {
					l.Top(now, 3)
					l.Counts()
				}
			}
		})
	}
	wg.Wait()
	if n := sent.Load(); n < 50 || n > 53 {
		t.Errorf("%d replies in 50 ms; the credit is 50", n)
	}
}

func TestNoAllocation(t *testing.T) {
	l := newLimiter(t, func(c *Config) {
		c.ResponsesPerSecond, c.QueriesPerSecond, c.Exempt = 10, 10, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	})
	six := netip.MustParseAddr("2001:db8::1")
	flood(l, Reply{To: victim}, testStart, 100000, time.Second) // fills the top as well
	now := testStart.Add(time.Second)
	if n := testing.AllocsPerRun(200, func() {
		l.Decide(now, Reply{To: victim})
		l.Decide(now, Reply{To: six, Kind: NameError, Name: l.NameHash("a-rather-long-name.example.org.")})
		l.Query(now, six, false)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	names := []string{"one network", "many networks", "flood of one network", "one network, both limits"}
	for which, name := range names {
		b.Run(name, func(b *testing.B) {
			l := newLimiter(b, func(c *Config) {
				if which == 3 {
					c.NetworkResponsesPerSecond = 1000
				}
			})
			h := l.NameHash("www.example.org.")
			addrs := make([]netip.Addr, 1<<16)
			for i := range addrs {
				addrs[i] = netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				now, to := testStart.Add(time.Duration(i)*time.Microsecond), victim
				switch which {
				case 0, 3:
					now = testStart.Add(time.Duration(i) * 10 * time.Millisecond)
				case 1:
					to = addrs[i*40503&(1<<16-1)]
				}
				l.Decide(now, Reply{To: to, Name: h})
				i++
			}
		})
	}
	b.Run("flood of one network by all cores", func(b *testing.B) {
		l := newLimiter(b, nil)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				l.Decide(testStart, Reply{To: victim})
			}
		})
	})
}
