package gss

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/sign"
	"anycastle/internal/mesh"
)

// sharers are site selectors that have the keys of a zone in common.
type sharers struct {
	t       *testing.T
	data    *mesh.Map
	mu      sync.Mutex
	members []mesh.Member // guarded by mu
	dirs    map[string]string
	list    map[string]*signing
	stops   map[string]func()
}

// start starts one that keeps the keys, or follows, with what it left when it was stopped.
func (s *sharers) start(name string, follow bool) {
	s.t.Helper()
	set := mustDecode(s.t, strings.Replace(nodeFile, "      primary:", signedZone, 1)).checked
	if s.dirs[name] == "" {
		s.dirs[name] = s.t.TempDir()
		s.join(name)
	}
	is, err := newSigning(set.Zones()[0], DNSSEC{}, s.dirs[name], slog.New(slog.DiscardHandler), func() {})
	if err != nil {
		s.t.Fatal(err)
	}
	is.config.SetDefaults()
	is.config.Lifetime, is.config.Follow = 0, follow
	is.shared = &keyShare{node: name, data: s.data, members: func() (list []mesh.Member) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range s.members {
			m.Self = m.Name == name
			list = append(list, m)
		}
		return list
	}}
	s.list[name] = is
	s.stops[name] = tasks(s.t, func(ctx context.Context) {
		is.run(ctx)
		if err := is.close(); err != nil {
			s.t.Error(err)
		}
	}, func(ctx context.Context) { // as tend does
		changed, unwatch := s.data.Watch()
		defer unwatch()
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				if is.heard() {
					is.look()
				}
			}
		}
	})
}

// join has all know of a member.
func (s *sharers) join(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, mesh.Member{Name: name})
}

func (s *sharers) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// keys gives the tags of the keys that one has at the zone's apex.
func (s *sharers) keys(name string) (tags string) {
	for _, rr := range s.list[name].apex(dns.TypeDNSKEY) {
		tags += fmt.Sprint(rr.(*dns.DNSKEY).KeyTag(), " ")
	}
	return tags
}

func (s *sharers) look(name string) (states, alarm string) {
	for _, k := range s.list[name].status() {
		states, alarm = states+string(k.State)+" ", k.Alarm+k.Error
	}
	return states, alarm
}

func newSharers(t *testing.T) *sharers {
	return &sharers{t: t, data: mesh.NewMap("mesh", nil), dirs: map[string]string{}, list: map[string]*signing{}, stops: map[string]func(){}}
}

// The keys of a zone are those of its keeper at all site selectors of the mesh, also while they roll, and any may keep them next.
func TestKeysThroughTheMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSharers(t)
		s.start("west", true)
		s.after(time.Second)
		if _, alarm := s.look("west"); s.keys("west") != "" || !strings.Contains(alarm, "nothing to follow") {
			t.Errorf("without a keeper there are the keys %q, alarm %q", s.keys("west"), alarm)
		}
		s.start("east", false)
		s.after(time.Second)
		same := func(keeper, follower, states string) {
			t.Helper()
			got, alarm := s.look(keeper)
			if got != states || alarm != "" || s.keys(keeper) == "" || s.keys(keeper) != s.keys(follower) {
				t.Errorf("keys are %q (%q) and %q, alarm %q; want %q", s.keys(keeper), got, s.keys(follower), alarm, states)
			}
		}
		same("east", "west", "published ")
		confirm := func(keeper string) {
			t.Helper()
			if err := s.list[keeper].order(t.Context(), KeyOrder{Kind: "confirm"}); err != nil {
				t.Error(err)
			}
			s.after(48 * time.Hour)
		}
		s.after(48 * time.Hour)
		confirm("east")
		same("east", "west", "active ")
		first := s.keys("east")

		// one that is away for the time of a roll: no key is removed that it answers by
		s.stops["west"]()
		if err := s.list["east"].order(t.Context(), KeyOrder{Kind: "roll"}); err != nil {
			t.Fatal(err)
		}
		s.after(48 * time.Hour)
		if got, _ := s.look("east"); got != "active published " && got != "published active " && got != "retired published " && got != "published retired " {
			t.Errorf("while the other is behind keys are %q", got)
		}
		s.start("west", true)
		s.after(48 * time.Hour)
		confirm("east")
		s.after(48 * time.Hour)
		same("east", "west", "active ")
		if s.keys("east") == first {
			t.Error("no other key has come")
		}

		// the other keeps them from now on
		s.stops["east"]()
		s.stops["west"]()
		s.start("west", false)
		s.start("east", true)
		s.after(time.Second)
		same("west", "east", "active ")
		if err := s.list["west"].order(t.Context(), KeyOrder{Kind: "roll"}); err != nil {
			t.Fatal(err)
		}
		s.after(time.Second)
		if got := s.keys("east"); len(strings.Fields(got)) != 2 || got != s.keys("west") {
			t.Errorf("after a roll by the other keys are %q and %q", s.keys("west"), got)
		}
		s.stops["east"]()
		s.stops["west"]()
	})
}

// Two that keep the keys of one zone are told so, and none gives its keys over newer ones.
func TestTwoKeepersOfAZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSharers(t)
		s.start("east", false)
		s.after(48 * time.Hour)
		s.start("west", false)
		s.start("follower", true)
		s.after(2 * time.Minute)
		for one, other := range map[string]string{"east": "west", "west": "east"} {
			if _, alarm := s.look(one); !strings.Contains(alarm, other+" keeps keys of this zone too") {
				t.Errorf("%s says %q", one, alarm)
			}
		}
		if s.keys("follower") != s.keys("east") {
			t.Errorf("who follows has the keys %q; east, who is further, has %q", s.keys("follower"), s.keys("east"))
		}
		for _, stop := range s.stops {
			stop()
		}
		s.start("west", true)
		s.start("east", false)
		s.after(2 * time.Minute)
		if got, alarm := s.look("east"); alarm != "" || s.keys("west") != s.keys("east") {
			t.Errorf("one follows now: keys are %q and %q (%s), alarm %q", s.keys("east"), s.keys("west"), got, alarm)
		}
		s.stops["east"]()
		s.stops["west"]()
	})
}

// What the mesh has is believed as far as it makes sense, and keys do not go there if that is not wanted.
func TestSharedKeysThatMakeNoSense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSharers(t)
		if err := s.data.Set(sharedStates+"mail.example.org.", []byte("no state")); err != nil {
			t.Fatal(err)
		}
		s.start("west", true)
		s.after(time.Second)
		if _, alarm := s.look("west"); !strings.Contains(alarm, "dnssec/state/mail.example.org. of the mesh") {
			t.Errorf("nonsense is %q", alarm)
		}
		s.data.Delete(sharedStates + "mail.example.org.")
		s.start("east", false)
		s.list["east"].mu.Lock()
		s.list["east"].config.Share = false
		s.list["east"].mu.Unlock()
		s.data.Delete(sharedStates + "mail.example.org.")
		s.after(48 * time.Hour)
		for _, item := range s.data.Snapshot() {
			if strings.HasPrefix(item.Key, sharedStates) {
				t.Errorf("keys that are not to be shared are: %s", item.Key)
			}
		}
		for _, stop := range s.stops {
			stop()
		}
	})
	if _, err := sign.DecodeKey([]byte("x")); err == nil {
		t.Error("one part is a key")
	}
}

// A site selector that stays behind costs the keeper a state now and then, not one after another; after a while somebody is told
// who it is, and it is waited for no more when it does not share the keys any more.
func TestOneThatStaysBehind(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	s.start("east", false)
	s.join("west")
	east := s.list["east"]
	waitFor(t, "the key", func() bool { return s.keys("east") != "" })
	west := &keyShare{node: "west", data: s.data}
	if err := west.tell(east.origin, turn{Serial: 1}); err != nil {
		t.Fatal(err)
	}
	east.mu.Lock()
	east.config.Propagation = 4 * time.Second
	east.keeper.Roll() // two keys from now on, one of which could go
	east.mu.Unlock()
	east.look()
	waitFor(t, "the wait", func() bool { east.mu.Lock(); defer east.mu.Unlock(); return len(east.late.names) == 1 })
	before := east.serial()
	<-time.After(1500 * time.Millisecond)
	if made := east.serial() - before; made > 3 {
		t.Errorf("in a second and a half %d states were made", made)
	}
	east.mu.Lock()
	east.late.since = time.Now().Add(-time.Hour)
	east.mu.Unlock()
	if err := east.step(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, alarm := s.look("east"); !strings.Contains(alarm, "no key goes, as west answers by older ones") {
		t.Errorf("it says %q", alarm)
	}
	west.leave(func(string) bool { return false })
	waitFor(t, "the end of the wait", func() bool { east.mu.Lock(); defer east.mu.Unlock(); return len(east.late.names) == 0 })
	s.stops["east"]()
}

// What of the keys the mesh has lost is given again, and a keeper that begins again waits at once for who is behind.
func TestKeeperThatBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSharers(t)
		s.start("east", false)
		s.after(48 * time.Hour)
		s.stops["east"]()
		keys := 0
		for _, item := range s.data.Snapshot() {
			if strings.HasPrefix(item.Key, sharedKeys) {
				keys++
				s.data.Delete(item.Key)
			}
		}
		s.join("west")
		west := &keyShare{node: "west", data: s.data}
		if err := west.tell("mail.example.org.", turn{Serial: 1}); err != nil {
			t.Fatal(err)
		}
		s.start("east", false)
		if err := s.list["east"].open(t.Context()); err != nil { // perhaps twice, as run does it too
			t.Fatal(err)
		}
		s.list["east"].mu.Lock()
		if is := s.list["east"]; len(is.late.names) != 1 || is.keeper == nil {
			t.Errorf("it waits for %v, and keeps the keys by %v", is.late.names, is.keeper)
		}
		s.list["east"].mu.Unlock()
		s.after(time.Second)
		for _, item := range s.data.Snapshot() {
			if strings.HasPrefix(item.Key, sharedKeys) {
				keys--
			}
		}
		if keys != 0 {
			t.Errorf("%d keys are missing", keys)
		}
		s.stops["east"]()
	})
}

// A process that is to take the place of another uses its keys until that ends, and keeps them then.
func TestSuccessorOfAKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSharers(t)
		s.start("east", false)
		s.after(48 * time.Hour)
		first, stop := s.list["east"], s.stops["east"]
		s.start("east", false)
		s.after(time.Second)
		if got := s.keys("east"); got == "" || !s.list["east"].signs() {
			t.Errorf("beside its predecessor it has the keys %q", got)
		}
		if err := s.list["east"].order(t.Context(), KeyOrder{Kind: "confirm"}); err == nil {
			t.Error("both take orders")
		}
		stop()
		s.after(2 * time.Second)
		if err := s.list["east"].order(t.Context(), KeyOrder{Kind: "confirm"}); err != nil {
			t.Errorf("the successor takes no order: %v", err)
		}
		if len(first.apex(dns.TypeDNSKEY)) == 0 {
			t.Error("who has ended has no keys")
		}
		s.stops["east"]()
	})
}

// A site selector that follows begins to answer once it has keys, or has waited for them long enough.
func TestWaitsForKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSharers(t)
		s.start("west", true)
		g := &GSS{engine: &engine{plan: plan{next: &serving{signed: map[string]*signing{"mail.example.org.": s.list["west"]}}}}}
		began := time.Now()
		g.waitKeys(t.Context())
		if took := time.Since(began); took < keysWait || took > keysWait+time.Second {
			t.Errorf("without a keeper it waited for %v", took)
		}
		began = time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			<-time.After(time.Second)
			s.start("east", false)
		})
		g.waitKeys(t.Context())
		wg.Wait()
		if took := time.Since(began); took < time.Second || took > 2*time.Second {
			t.Errorf("with one after a second it waited for %v", took)
		}
		for _, stop := range s.stops {
			stop()
		}
	})
}

// Site selectors with a mesh have the keys of all their zones in common, those of the first config and those that a reload signs.
func TestKeysAreShared(t *testing.T) {
	dir := t.TempDir()
	config := func(dnssec string) Config {
		cfg := mustDecode(t, strings.Replace(nodeFile, "      primary:", dnssec, 1))
		cfg.checked, cfg.StateDir = nil, dir
		cfg.Mesh = &mesh.Config{Listen: netip.MustParseAddrPort("127.0.0.1:7946"), Key: make(mesh.Key, 32)}
		cfg.Mesh.Key[0] = 1
		return cfg
	}
	for _, first := range []string{signedZone, "      primary:"} {
		g, err := New(config(first), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Reload(config(signedZone)); err != nil {
			t.Fatal(err)
		}
		is := g.engine.serving().signed["mail.example.org."]
		if is.shared == nil || is.shared.node != "gss-east" || is.shared.data != g.engine.data {
			t.Errorf("the keys are shared by %+v", is.shared)
		}
		if err := is.close(); err != nil {
			t.Error(err)
		}
	}
}
