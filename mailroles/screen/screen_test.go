package screen

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"
)

// zone is a fake of DNS: answers by name, and names that are not answered in time.
type zone struct {
	mu      sync.Mutex
	answers map[string][]string
	silent  map[string]bool
	asked   map[string]int
}

func (z *zone) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	z.mu.Lock()
	if z.asked == nil {
		z.asked = map[string]int{}
	}
	z.asked[host]++
	answers, silent := z.answers[host], z.silent[host]
	z.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if len(answers) == 0 {
		return nil, &net.DNSError{Name: host, IsNotFound: true}
	}
	var list []netip.Addr
	for _, a := range answers {
		list = append(list, netip.AddrFrom16(netip.MustParseAddr(a).As16())) // as net.Resolver gives them
	}
	return list, nil
}

func newTest(change func(*Config), dns asker) *Screen {
	var cfg Config
	cfg.SetDefaults()
	if change != nil {
		change(&cfg)
	}
	quiet := slog.New(slog.DiscardHandler)
	s := New(cfg, quiet)
	if cfg.DNSBL != nil {
		s.lists = newLists(*cfg.DNSBL, dns, quiet)
	}
	return s
}

// patient is a client that waits for its banner, hasty one that speaks after a second.
func patient(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return false
}

func hasty(_ context.Context, d time.Duration) bool {
	time.Sleep(min(d, time.Second))
	return d > time.Second
}

var client = netip.MustParseAddr("192.0.2.99")

// check admits a client and compares the verdict and the reply.
func check(t *testing.T, s *Screen, from netip.Addr, early earlyFunc, want string, code int) func() {
	t.Helper()
	release, err := s.Admit(t.Context(), from, early)
	var r *Refusal
	var reply *smtp.SMTPError
	got := Passed
	if errors.As(err, &r) {
		got = r.Reason
	}
	if got != want || code != 0 && (!errors.As(err, &reply) || reply.Code != code) {
		t.Fatalf("%s: %s (%v), want %s with %d", from, got, err, want, code)
	}
	return release
}

func TestGreetDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTest(nil, nil)
		check(t, s, client, hasty, Early, 554)
		begin := time.Now()
		check(t, s, client, patient, Passed, 0)()
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("a stranger waits for %v, want 2s", took)
		}
		begin = time.Now()
		check(t, s, client, hasty, Passed, 0)()
		if took := time.Since(begin); took != 0 {
			t.Errorf("one who was let in before waits for %v", took)
		}
		time.Sleep(time.Hour + time.Second)
		check(t, s, client, hasty, Early, 554)
		if want := map[string]uint64{Early: 2, Passed: 2}; !maps.Equal(s.Counts(), want) {
			t.Errorf("counts are %v, want %v", s.Counts(), want)
		}
	})
}

func TestSourceLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTest(func(c *Config) { c.MaxSessions, c.PerMinute, c.GreetDelay = 2, 4, 0 }, nil)
		end1 := check(t, s, netip.MustParseAddr("2001:db8::1"), nil, Passed, 0)
		end2 := check(t, s, netip.MustParseAddr("2001:db8::2"), nil, Passed, 0)
		check(t, s, netip.MustParseAddr("2001:db8::3"), nil, Sessions, 421) // the same /64
		check(t, s, netip.MustParseAddr("2001:db8:0:1::1"), nil, Passed, 0)()
		end1()
		end2()
		for range 2 {
			check(t, s, netip.MustParseAddr("2001:db8::3"), nil, Passed, 0)()
		}
		check(t, s, netip.MustParseAddr("2001:db8::3"), nil, Rate, 421)
		time.Sleep(15 * time.Second) // a fourth of a minute gives one of four
		check(t, s, netip.MustParseAddr("2001:db8::3"), nil, Passed, 0)()
		check(t, s, netip.MustParseAddr("2001:db8::3"), nil, Rate, 421)
		// what was refused has left nothing open
		for p, src := range s.sources.seen {
			if src.open != 0 {
				t.Errorf("%v has %d sessions open, want none", p, src.open)
			}
		}
	})
}

func TestExempt(t *testing.T) {
	s := newTest(func(c *Config) { c.Exempt, c.MaxSessions = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, 1 }, nil)
	for range 3 {
		check(t, s, netip.AddrFrom16(client.As16()), hasty, Passed, 0)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s := newSources(Config{MaxSessions: 1, PerMinute: 1})
	open := netip.MustParseAddr("203.0.113.1")
	s.enter(open)
	a := netip.MustParseAddr("10.0.0.0")
	for range maxSources * 2 {
		release, _, _ := s.enter(a)
		release()
		a = a.Next()
	}
	if len(s.seen) > maxSources {
		t.Errorf("%d sources are remembered, want at most %d", len(s.seen), maxSources)
	}
	if _, _, reason := s.enter(open); reason != Sessions {
		t.Errorf("a source with a session was forgotten: %q", reason)
	}
}

// with adds lists to a config, each with weight 1.
func with(zones ...string) func(*Config) {
	return func(c *Config) {
		c.GreetDelay = 0
		c.DNSBL = &DNSBL{Timeout: time.Second, Threshold: 1}
		for _, z := range zones {
			c.DNSBL.Lists = append(c.DNSBL.Lists, List{Zone: z, Weight: 1})
		}
	}
}

func TestDNSBL(t *testing.T) {
	narrow := func(d *DNSBL) {
		d.Lists[0].Answers = []Range{{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.4")}}
	}
	const four, six = "99.2.0.192.", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2."
	for _, tc := range []struct {
		name    string
		answers map[string][]string
		change  func(*DNSBL)
		from    string
		want    string
	}{
		{"not listed", nil, nil, "192.0.2.99", Passed},
		{"listed", map[string][]string{four + "one.": {"127.0.0.2"}}, nil, "192.0.2.99", Listed},
		{"IPv6 listed", map[string][]string{six + "two.": {"127.0.0.4"}}, nil, "2001:db8::1", Listed},
		{"error code", map[string][]string{four + "one.": {"127.255.255.254"}}, nil, "192.0.2.99", Passed},
		{"error code beside an answer", map[string][]string{four + "one.": {"127.0.0.2", "127.255.255.255"}},
			nil, "192.0.2.99", Passed},
		{"hijacked", map[string][]string{four + "one.": {"198.51.100.1"}}, nil, "192.0.2.99", Passed},
		{"127.0.0.1", map[string][]string{four + "one.": {"127.0.0.1"}}, nil, "192.0.2.99", Passed},
		{"another answer than wanted", map[string][]string{four + "one.": {"127.0.0.11"}},
			narrow, "192.0.2.99", Passed},
		{"below the threshold", map[string][]string{four + "one.": {"127.0.0.2"}},
			func(d *DNSBL) { d.Threshold = 2 }, "192.0.2.99", Passed},
		{"together", map[string][]string{four + "one.": {"127.0.0.2"}, four + "two.": {"127.0.0.2"}},
			func(d *DNSBL) { d.Threshold = 2 }, "192.0.2.99", Listed},
		{"a list of good ones", map[string][]string{four + "one.": {"127.0.0.2"}, four + "two.": {"127.0.0.2"}},
			func(d *DNSBL) { d.Lists[1].Weight = -1 }, "192.0.2.99", Passed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newTest(func(c *Config) {
				with("one", "two")(c)
				if tc.change != nil {
					tc.change(c.DNSBL)
				}
			}, &zone{answers: tc.answers})
			code := 0
			if tc.want == Listed {
				code = 554
			}
			check(t, s, netip.MustParseAddr(tc.from), nil, tc.want, code)
		})
	}
}

func TestSilentListLetsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{silent: map[string]bool{"99.2.0.192.one.": true}}
		s := newTest(with("one", "two"), z)
		begin := time.Now()
		check(t, s, client, nil, Passed, 0)()
		if took := time.Since(begin); took != time.Second {
			t.Errorf("took %v, want the time-out of 1s", took)
		}
		// what a list did not say is not kept
		z.mu.Lock()
		z.silent, z.answers = nil, map[string][]string{"99.2.0.192.one.": {"127.0.0.2"}}
		z.mu.Unlock()
		check(t, s, client, nil, Listed, 554)
		check(t, s, client, nil, Listed, 554) // this is
		if n := z.asked["99.2.0.192.one."]; n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
		if st := s.Lists()[0]; st.Errors != 1 || st.Listed != 1 || !strings.Contains(st.Err, "deadline") {
			t.Errorf("status is %+v, want one error and one listing", st)
		}
	})
}

func TestListThatListsEverybodyIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{answers: map[string][]string{"99.2.0.192.one.": {"127.0.0.2"}, "1.0.0.127.one.": {"127.0.0.2"}}}
		s := newTest(with("one"), z)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		check(t, s, client, nil, Passed, 0)()
		if why := s.Lists()[0].Broken; !strings.Contains(why, "127.0.0.1") {
			t.Errorf("the list is broken since %q, want its answer for 127.0.0.1", why)
		}
		z.mu.Lock()
		delete(z.answers, "1.0.0.127.one.")
		z.mu.Unlock()
		time.Sleep(testEvery + time.Second)
		check(t, s, client, nil, Listed, 554)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestListThatRefusesTheTest(t *testing.T) {
	s := newTest(with("one"), &zone{answers: map[string][]string{"1.0.0.127.one.": {"127.255.255.254"}}})
	s.lists.test(t.Context())
	if why, want := s.Lists()[0].Broken, "it answers a test with the error code 127.255.255.254"; why != want {
		t.Errorf("the list is left out since %q, want %q", why, want)
	}
}

func TestClientThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTest(nil, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Admit(ctx, client, patient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Admit gives %v, want the context's end", err)
		}
		if !slices.Contains(slices.Collect(maps.Keys(s.Counts())), Left) {
			t.Errorf("counts are %v", s.Counts())
		}
	})
}

// One who hangs up before the banner has not waited for it, and is no less a stranger when it comes again.
func TestClientThatHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTest(nil, nil)
		hangsUp := func(context.Context, time.Duration) bool {
			time.Sleep(time.Second)
			return false
		}
		check(t, s, client, hangsUp, Passed, 0)()
		check(t, s, client, hasty, Early, 554)
		if want := map[string]uint64{Left: 1, Early: 1}; !maps.Equal(s.Counts(), want) {
			t.Errorf("counts are %v, want %v", s.Counts(), want)
		}
	})
}

func FuzzRange(f *testing.F) {
	f.Add("127.0.0.2-127.0.0.11")
	f.Add("127.0.0.2")
	f.Fuzz(func(t *testing.T, text string) {
		var r Range
		if r.UnmarshalText([]byte(text)) == nil && (!r.contains(r.From) || !r.contains(r.To)) {
			t.Errorf("%q does not hold its own ends", text)
		}
	})
}
