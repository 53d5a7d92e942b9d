package gss

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/gss/decide"
	"anycastle/internal/mesh"
	"anycastle/internal/porttest"
)

// say gives the one telling that a process says a view with.
func say(t *testing.T, boot, number int64, v decide.View) []byte {
	t.Helper()
	number--
	texts, err := encodeTellings(boot, &number, map[string]view{"smtp-east": {Seen: decide.Seen{View: v}}}, nil)
	if err != nil || len(texts) != 1 {
		t.Fatalf("%d tellings, %v", len(texts), err)
	}
	return texts[0]
}

// Nothing that is over comes back: neither late packets, nor recorded ones, nor what another process said.
func TestTellingsOfVantages(t *testing.T) {
	v := newVantages("gss-east")
	for _, step := range []struct {
		what          string
		after         time.Duration
		boot, number  int64
		view          decide.View
		refused, news bool
		want          decide.View
	}{
		{"the first", 0, 100, 1, decide.Passing, false, true, decide.Passing},
		{"the same", time.Second, 100, 2, decide.Passing, false, false, decide.Passing},
		{"a newer one", 2 * time.Second, 100, 4, decide.Failing, false, true, decide.Failing},
		{"a late one", 2 * time.Second, 100, 3, decide.Passing, false, false, decide.Failing},
		{"the late one again", 2 * time.Second, 100, 3, decide.Passing, true, false, decide.Failing},
		{"after silence", 5 * time.Second, 100, 5, decide.Failing, false, true, decide.Failing},
		{"another process", 5 * time.Second, 200, 1, decide.NoView, false, true, decide.NoView},
		{"the process before", 6 * time.Second, 100, 9, decide.Failing, true, false, decide.NoView},
		{"a clock that was set back, after silence", 30 * time.Second, 150, 1, decide.Failing, false, true, decide.Failing},
	} {
		news, err := v.take("gss-west", say(t, step.boot, step.number, step.view), clock.Add(step.after))
		if (err != nil) != step.refused || news != step.news {
			t.Errorf("%s: news %v, %v", step.what, news, err)
		}
		if got := v.of(nil, nil, clock.Add(step.after))["gss-west"].Answers["smtp-east"].View; got != step.want {
			t.Errorf("%s: it is seen %q, want %q", step.what, got, step.want)
		}
	}
	if _, err := v.take("gss-east", say(t, 1, 1, decide.Passing), clock); err == nil {
		t.Error("taken from itself")
	}
}

func TestVantagesAreBounded(t *testing.T) {
	v := newVantages("gss-east")
	for i := range maxVantages {
		if _, err := v.take(fmt.Sprint("gss", i), say(t, 1, 1, decide.Passing), clock); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := v.take("one-more", say(t, 1, 1, decide.Passing), clock); err == nil {
		t.Error("there is no bound")
	}
	if _, err := v.take("one-more", say(t, 1, 1, decide.Passing), clock.Add(2*time.Minute)); err != nil {
		t.Errorf("after two minutes of silence of the others: %v", err)
	}
}

// Whoever is a member counts among those that there should be, heard or not, unless it has left.
func TestWhoIsAVantage(t *testing.T) {
	v := newVantages("gss-a")
	if _, err := v.take("gss-b", say(t, 1, 1, decide.Passing), clock); err != nil {
		t.Fatal(err)
	}
	members := []mesh.Member{{Name: "gss-a", State: mesh.Alive}, {Name: "gss-b", State: mesh.Left}, {Name: "gss-c", State: mesh.Lost}}
	names := func(now time.Time) string {
		var list []string
		for name, is := range v.of(members, nil, now) {
			list = append(list, fmt.Sprint(name, " ", !is.Heard.IsZero()))
		}
		if len(list) == 2 && list[0] > list[1] {
			list[0], list[1] = list[1], list[0]
		}
		return strings.Join(list, ", ")
	}
	if got := names(clock); got != "gss-b true, gss-c false" {
		t.Errorf("at once: %s", got)
	}
	if got := names(clock.Add(time.Minute)); got != "gss-c false" {
		t.Errorf("later: %s", got)
	}
}

func TestTellingsFitPackets(t *testing.T) {
	views, number := map[string]view{}, int64(0)
	for i := range 200 {
		views[fmt.Sprint("answer-", i)] = view{
			Seen: decide.Seen{View: decide.Failing, Failed: true, Why: strings.Repeat("\x00é", 200)}, digest: math.MaxUint32,
		}
	}
	texts, err := encodeTellings(1, &number, views, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]view{}
	for _, text := range texts {
		if len(text) > mesh.MaxTold {
			t.Errorf("a telling has %d bytes", len(text))
		}
		telling, err := decodeTelling(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range telling.Views {
			got[s.Answer] = view{Seen: decide.Seen{View: s.View, Failed: s.Failed}, digest: s.Digest}
		}
	}
	for name, s := range views {
		s.Why = ""
		views[name] = s
	}
	if diff := cmp.Diff(views, got, cmp.AllowUnexported(view{})); diff != "" || number != int64(len(texts)) {
		t.Errorf("%d tellings, numbered to %d (-want +got):\n%s", len(texts), number, diff)
	}
	var drains []drained
	for range 100 {
		drains = append(drains, drained{Order: "answer/" + strings.Repeat("x", 63), Since: math.MaxInt64, Left: maxLeft, Given: true})
	}
	told := 0
	texts, err = encodeTellings(1, &number, views, drains)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		telling, err := decodeTelling(text)
		if len(text) > mesh.MaxTold || err != nil {
			t.Errorf("a telling with drains has %d bytes, %v", len(text), err)
		}
		told += len(telling.Drains)
	}
	if told != len(drains) {
		t.Errorf("%d of %d drains are told", told, len(drains))
	}
	if texts, _ := encodeTellings(1, &number, nil, nil); len(texts) != 1 {
		t.Error("there is no sign of life where there are no answers")
	}
}

// A reason goes to an operator's terminal and is kept, whoever tells it.
func TestToldReasonsAreOneShortLine(t *testing.T) {
	v := newVantages("gss-a")
	text := `{"boot":1,"number":1,"views":[{"a":"smtp-east","v":"failing","w":"a\nb\u001b[2J` + strings.Repeat("é", 500) + `"}]}`
	if _, err := v.take("gss-b", []byte(text), clock); err != nil {
		t.Fatal(err)
	}
	why := v.of(nil, nil, clock)["gss-b"].Answers["smtp-east"].Why
	if len(why) > maxWhy || !strings.HasPrefix(why, "a b [2Jé") || shorten(why) != why {
		t.Errorf("the reason is kept as %q", why)
	}
}

func FuzzTelling(f *testing.F) {
	number := int64(0)
	texts, err := encodeTellings(1, &number, map[string]view{
		"smtp-east": {Seen: decide.Seen{View: decide.Failing, Failed: true, Why: "x"}, digest: 7}, "b": {},
	}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(texts[0])
	f.Add([]byte(`{"boot":1,"number":9223372036854775807,"views":null}`))
	f.Add([]byte(`{"boot":1,"number":1,"drains":[{"o":"site/east","s":1,"l":315360000000,"g":true}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		v := newVantages("gss-a")
		if _, err := v.take("gss-b", text, clock); err != nil {
			return
		}
		for name, s := range v.of(nil, nil, clock)["gss-b"].Answers {
			if !objectName.MatchString(name) || s.View != decide.NoView && s.View != decide.Passing && s.View != decide.Failing {
				t.Errorf("%q is seen as %q", name, s.View)
			}
		}
	})
}

// member is one of several GSSes with a real mesh between them.
type member struct {
	*GSS
	sites *sites
	end   func()
}

// startMembers runs GSSes whose probes the tests decide, without sockets for queries.
func startMembers(t *testing.T, names ...string) map[string]*member {
	t.Helper()
	var addrs []netip.AddrPort
	for i := range names {
		addrs = append(addrs, porttest.Free(t, fmt.Sprintf("127.0.1.%d", i+1)))
	}
	all := map[string]*member{}
	for i, name := range names {
		cfg := mustDecode(t, nodeFile)
		cfg.Name, cfg.checked = name, nil
		cfg.Mesh = &mesh.Config{Listen: addrs[i], Key: make(mesh.Key, 32), Join: addrs}
		cfg.Mesh.Key[0] = 1
		cfg.Answers[0].Addresses = cfg.Answers[0].Addresses[:1]
		cfg.Answers[0].FailBack = 0
		for j := range cfg.Answers {
			p := &cfg.Answers[j].Probes[0]
			p.Interval, p.Timeout, p.Fail = 100*time.Millisecond, 50*time.Millisecond, 2
		}
		m := &member{sites: &sites{}}
		var err error
		if m.GSS, err = New(cfg, Options{Probe: m.sites.probe}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { m.engine.prober.Run(ctx) })
		wg.Go(func() { m.engine.run(ctx) })
		wg.Go(func() {
			if err := m.engine.mesh.Run(ctx); err != nil {
				t.Errorf("the mesh of %s: %v", name, err)
			}
		})
		m.end = sync.OnceFunc(func() { cancel(); wg.Wait() })
		t.Cleanup(m.end)
		all[name] = m
	}
	return all
}

func (m *member) place() decide.Place { return m.Answers()[0].Place }

// A majority takes an answer out, at all of them; one alone does not; and who is left alone believes itself after a moment.
func TestVantagesVote(t *testing.T) {
	all := startMembers(t, "gss-a", "gss-b", "gss-c")
	a := all["gss-a"]
	waitFor(t, "all are heard everywhere", func() bool {
		for _, m := range all {
			counts := 0
			for _, v := range m.Vantages() {
				if v.Counts && v.Passing == 2 {
					counts++
				}
			}
			if counts != 3 {
				return false
			}
		}
		return true
	})
	a.sites.set(east)
	waitFor(t, "b hears that a sees it fail", func() bool {
		for _, v := range all["gss-b"].Vantages() {
			if v.Name == "gss-a" && len(v.Failing) == 1 && strings.Contains(v.Failing[0], "smtp-east: tcp 203.0.113.110:25: no route to host") {
				return true
			}
		}
		return false
	})
	for name, m := range all {
		if p := m.place(); p != decide.Serving {
			t.Errorf("one of three sees it fail, and at %s it is %s", name, p)
		}
	}
	all["gss-b"].sites.set(east)
	began := time.Now()
	for name, m := range all {
		waitFor(t, "it is out at "+name, func() bool { return m.place() == decide.Out })
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v until a majority's view counted everywhere", took)
	}
	all["gss-b"].sites.set()
	waitFor(t, "it serves again", func() bool { return a.place() == decide.Serving })

	if _, err := all["gss-c"].engine.order(Order{Kind: decide.KindSuspend, Answer: "smtp-west", Why: "disk"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "an order reaches the others", func() bool { return a.Answers()[1].Place == decide.Suspended })

	if _, err := a.engine.order(Order{Kind: decide.KindDrain, Answer: "smtp-east"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the others say that they drain", func() bool {
		others := a.Orders()[0].Others
		return len(others) == 2 && others[0].Taken && others[1].Taken
	})

	all["gss-b"].end()
	all["gss-c"].end()
	waitFor(t, "the one that is left believes itself", func() bool { return a.place() == decide.Out })
}

// memberlist takes the last of a burst first: of many tellings at once none is lost for that.
func TestManyAnswersToldBackwards(t *testing.T) {
	views, number := map[string]view{}, int64(0)
	long := decide.Seen{View: decide.Failing, Failed: true, Why: strings.Repeat("x", maxWhy)}
	for i := range maxViews {
		views[fmt.Sprintf("smtp-%05d", i)] = view{Seen: long, digest: math.MaxUint32}
	}
	v := newVantages("gss-east")
	for beats := range 2 {
		texts, err := encodeTellings(1, &number, views, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range slices.Backward(texts) {
			if _, err := v.take("gss-west", text, clock); err != nil {
				t.Fatalf("beat %d, of %d tellings: %v", beats, len(texts), err)
			}
		}
	}
	if got := len(v.of(nil, nil, clock)["gss-west"].Answers); got != len(views) {
		t.Errorf("%d of %d views are known", got, len(views))
	}
}

// What another sees at the address that an answer had before a reload is no view of the one that it has now.
func TestViewsOfAnotherAddress(t *testing.T) {
	d := newDeciding(t, nodeFile)
	theirs := mustDecode(t, strings.Replace(nodeFile, "203.0.113.210", "203.0.113.211", 1))
	views, number := map[string]view{}, int64(0)
	for i := range theirs.Answers {
		a := &theirs.Answers[i]
		views[a.Name] = view{Seen: decide.Seen{View: decide.Failing, Failed: true, Why: "no route to host"}, digest: a.digest()}
	}
	texts, err := encodeTellings(1, &number, views, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.engine.others.take("gss-west", texts[0], time.Now()); err != nil {
		t.Fatal(err)
	}
	v := d.Vantages()[1]
	if len(v.Failing) != 1 || !strings.HasPrefix(v.Failing[0], "smtp-east: ") || !slices.Equal(v.Differ, []string{"smtp-west"}) {
		t.Errorf("the other is %+v", v)
	}
	if a := d.Answers(); len(a[0].Differ) > 0 || !slices.Equal(a[1].Differ, []string{"gss-west"}) {
		t.Errorf("the answers are %+v", a)
	}
}

// Two site selectors may probe the same at another pace and with certificates of their own; their votes count.
func TestWhatADigestIsOf(t *testing.T) {
	const probes = "probes: [{port: 25, interval: 500ms, timeout: 400ms, fail: 3}]"
	digest := func(old, new string) uint32 {
		cfg := mustDecode(t, strings.Replace(nodeFile, old, new, 1))
		return cfg.Answers[1].digest()
	}
	same := digest("", "")
	for name, tc := range map[string]struct {
		old, new string
		same     bool
	}{
		"pace":    {probes, "probes: [{port: 25, interval: 2s, timeout: 1s, fail: 1, window: {size: 5, fail: 3}}]", true},
		"weight":  {"target: mx-west.example.org", "target: mx-west.example.org\n      weight: 7", true},
		"address": {"203.0.113.210", "203.0.113.211", false},
		"more":    {"[203.0.113.210]", `[203.0.113.210, "2001:db8::1"]`, false},
		"port":    {probes, "probes: [{port: 587}]", false},
		"type":    {probes, "probes: [{port: 25, type: smtp}]", false},
		"path":    {probes, "probes: [{port: 25, type: http, path: /a}]", false},
		"two":     {probes, "probes: [{port: 25}, {port: 26}]", false},
	} {
		if got := digest(tc.old, tc.new); (got == same) != tc.same {
			t.Errorf("%s: the digest is %#x, of the node file %#x", name, got, same)
		}
	}
}
