package inject

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/porttest"
	"anycastle/rhi"
	"anycastle/rhi/decide"
)

const patience = 15 * time.Second

var (
	vip    = netip.MustParsePrefix("203.0.113.10/32")
	other4 = netip.MustParsePrefix("203.0.113.11/32")
)

// fakeSpeaker stands for a speaker with one established peer, and keeps a journal.
type fakeSpeaker struct {
	mu      sync.Mutex
	now     map[netip.Prefix]rhi.Announcement
	journal []string
	peers   int
	fail    bool
	watched map[string]rhi.Watched
	looks   int // at the tables
}

func (s *fakeSpeaker) SetAnnouncements(_ context.Context, list []rhi.Announcement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		return fmt.Errorf("the speaker is broken")
	}
	s.now = map[netip.Prefix]rhi.Announcement{}
	var words []string
	for _, a := range list {
		s.now[a.Prefix] = a
		words = append(words, fmt.Sprintf("%v@%d", a.Prefix.Addr(), a.Rungs["default"]))
	}
	slices.Sort(words)
	s.journal = append(s.journal, strings.Join(words, " "))
	return nil
}

func (s *fakeSpeaker) Refuse(p netip.Prefix) string {
	if p.Addr().Is6() {
		return "nobody takes it"
	}
	return ""
}

// withdrawn is the last rung of the default ladder.
const withdrawn = 3

func (s *fakeSpeaker) Standing() map[netip.Prefix]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	standing := map[netip.Prefix]int{}
	for p, a := range s.now {
		if a.Rungs["default"] < withdrawn {
			standing[p] = s.peers
		}
	}
	return standing
}

func (s *fakeSpeaker) Watched() map[string]rhi.Watched {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	return maps.Clone(s.watched)
}

func (s *fakeSpeaker) Status() rhi.Status {
	return rhi.Status{Peers: []rhi.Peer{{Name: "core", State: "established", LastError: "was lost"}}}
}

func (s *fakeSpeaker) Sent() []rhi.Sent {
	return []rhi.Sent{{Prefix: vip, Peer: "core", Sent: "announced", Why: "fit", At: noon, Written: noon.Add(time.Millisecond), Acknowledged: noon.Add(2 * time.Millisecond)}}
}

// rung gives the rung at which a VIP is announced, -1 if it is not in the last list.
func (s *fakeSpeaker) rung(p netip.Prefix) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.now[p]
	if !ok {
		return -1
	}
	return a.Rungs["default"]
}

func (s *fakeSpeaker) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// balancer is an Injector that runs, with a health engine that renews its lease.
type balancer struct {
	*Injector
	t       *testing.T
	speaker *fakeSpeaker
	end     func() // stops it and waits
	stop    func() // stops the engine without another word

	mu    sync.Mutex
	reals map[netip.Prefix]int // in service, of 2
}

type balancerOptions struct {
	name, site, role, dir string
	learn                 time.Duration // 0: 200 ms
	gates                 string
	listen                netip.AddrPort // zero: no mesh
	join                  []netip.AddrPort
}

func parse(t *testing.T, o balancerOptions) rhi.Config {
	t.Helper()
	text := fmt.Sprintf(`rhi:
  asn: 65011
  router_id: 198.51.100.1
  site: %s
  role: %s
  state_dir: %s
  gates: {learn: %v, fail_back: 1s, hold_down: 500ms, settle: 300ms, damping: {half_life: 1m, park: 10000}%s}
  neighbors: [{name: core, address: 198.51.100.0, asn: 65001}]
`, o.site, o.role, o.dir, cmp.Or(o.learn, 200*time.Millisecond), o.gates)
	if o.listen.IsValid() {
		text += fmt.Sprintf("  mesh: {listen: %q, key: \"000102030405060708090a0b0c0d0e0f\", name: %s, join: [", o.listen, o.name)
		for _, j := range o.join {
			text += fmt.Sprintf("%q,", j)
		}
		text += "]}\n"
	}
	doc, err := config.Parse("node.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var cfg rhi.Config
	cfg.Validate(doc.Decode("rhi", &cfg))
	if err := doc.Err(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func start(t *testing.T, o balancerOptions) *balancer {
	t.Helper()
	if o.role == "" {
		o.role = "primary"
	}
	if o.dir == "" {
		o.dir = filepath.Join(t.TempDir(), "rhi")
	}
	b := &balancer{t: t, speaker: &fakeSpeaker{peers: 1}, reals: map[netip.Prefix]int{vip: 2}}
	log := slog.New(slog.NewTextHandler(newTestLog(t, o.name), nil))
	var err error
	b.Injector, err = New(parse(t, o), b.speaker, Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	engine, stopEngine := context.WithCancel(ctx)
	var wg, engineWG sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Errorf("%s: %v", o.name, err)
		}
	})
	engineWG.Go(func() {
		for tick := time.NewTicker(200 * time.Millisecond); ; {
			b.tell()
			select {
			case <-engine.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	})
	b.stop = func() { stopEngine(); engineWG.Wait() }
	b.end = func() { b.stop(); cancel(); wg.Wait() }
	t.Cleanup(b.end)
	return b
}

// tell says how many reals are in service.
func (b *balancer) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []Service
	for p, n := range b.reals {
		list = append(list, Service{Prefix: p, Health: decide.Health{Known: true, InService: n, Reals: 2, Share: float64(n) / 2}})
	}
	_ = b.Set(b.t.Context(), list) // a broken speaker is some test's wish
}

// serve has so many reals be in service from now on.
func (b *balancer) serve(n int, prefixes ...netip.Prefix) {
	b.mu.Lock()
	for _, p := range prefixes {
		b.reals[p] = n
	}
	b.mu.Unlock()
	b.tell()
}

func (b *balancer) place(p netip.Prefix) decide.Place {
	for _, s := range b.Announcements() {
		if s.VIP == p {
			return s.Place
		}
	}
	return "none"
}

func (b *balancer) reaches(p netip.Prefix, want decide.Place) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%s: %v at %s", b.name, p, want), func() bool { return b.place(p) == want })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// testLog keeps a log for a test that fails. Goroutines of memberlist may write into it after the test.
type testLog struct {
	name string

	mu   sync.Mutex
	text strings.Builder
}

func newTestLog(t *testing.T, name string) *testLog {
	l := &testLog{name: name}
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, l.text.String())
		}
	})
	return l
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// pair starts balancers at two sites that know each other.
func pair(t *testing.T, gates string) (east, west *balancer) {
	t.Helper()
	addrs := []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3")}
	east = start(t, balancerOptions{name: "east-lb1", site: "east", listen: addrs[0], join: addrs, gates: gates})
	west = start(t, balancerOptions{name: "west-lb1", site: "west", role: "backup", listen: addrs[1], join: addrs, gates: gates})
	east.reaches(vip, decide.PlaceFull)
	west.reaches(vip, decide.PlaceFull)
	eventually(t, "both hear that the other is at full", func() bool { return east.hears(west) && west.hears(east) })
	return east, west
}

// hears says whether a balancer knows that another one has the VIP at the top of the ladder.
func (b *balancer) hears(o *balancer) bool {
	for _, e := range b.others.elsewhere(vip) {
		if e.Name == o.name {
			return e.Place == decide.PlaceFull && e.Healthy && time.Since(e.Heard) < 3*time.Second
		}
	}
	return false
}
