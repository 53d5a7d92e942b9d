package mesh

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func addrPorts(texts ...string) []netip.AddrPort {
	list := make([]netip.AddrPort, len(texts))
	for i, s := range texts {
		list[i] = addrPort(s)
	}
	return list
}

// testMap is a map with a clock of its own.
type testMap struct {
	*Map
	at time.Time
}

func newTestMap(node string) *testMap {
	m := &testMap{Map: NewMap(node, nil), at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	m.now = func() time.Time { return m.at }
	return m
}

// all gives the map as text, tombstones too.
func (m *testMap) all(t testing.TB) string {
	t.Helper()
	msg, err := decode(m.encode())
	check(t, err)
	var lines []string
	for _, e := range msg.entries {
		lines = append(lines, fmt.Sprintf("%s=%q %v %v", e.key, e.value, e.deleted, e.stamp))
	}
	return strings.Join(lines, "\n")
}

func (m *testMap) pull(t testing.TB, from *testMap) merged {
	t.Helper()
	msg, err := decode(from.encode())
	check(t, err)
	return m.merge(msg.entries, false)
}

func TestMapOfOneMember(t *testing.T) {
	m := newTestMap("lb1")
	check(t, m.Set("b", []byte("2")))
	check(t, m.Set("a", []byte("1")))
	check(t, m.Set("c", nil))
	if !m.Delete("b") || m.Delete("b") || m.Delete("z") {
		t.Error("Delete is wrong about what was there")
	}
	if _, ok := m.Get("b"); ok {
		t.Error("a deleted key is there")
	}
	if v, ok := m.Get("a"); !ok || string(v) != "1" {
		t.Errorf("a is %q, %v", v, ok)
	}
	at := m.at.Local()
	want := []Item{{"a", []byte("1"), "lb1", at}, {"c", []byte{}, "lb1", at}}
	if diff := gocmp.Diff(want, m.Snapshot()); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
	if live, tombstones := m.counts(); live != 2 || tombstones != 1 {
		t.Errorf("%d keys and %d tombstones", live, tombstones)
	}
	// what a caller does to its copies stays there
	m.Snapshot()[0].Value[0] = 'x'
	if v, _ := m.Get("a"); string(v) != "1" {
		t.Errorf("a became %q", v)
	}
}

func TestLastWriterWins(t *testing.T) {
	a, b := newTestMap("a"), newTestMap("b")
	b.at = a.at.Add(-10 * time.Minute) // b's clock is slow
	check(t, a.Set("k", []byte("first")))
	b.pull(t, a)
	check(t, b.Set("k", []byte("second"))) // made knowing of the first
	a.pull(t, b)
	if v, _ := a.Get("k"); string(v) != "second" {
		t.Errorf("k is %q: a slow clock made a later change the earlier one", v)
	}
	if !a.Delete("k") {
		t.Error("k was not there")
	}
	b.pull(t, a)
	if _, ok := b.Get("k"); ok {
		t.Error("b still has what a has deleted")
	}
	check(t, b.Set("k", []byte("again")))
	a.pull(t, b)
	if v, _ := a.Get("k"); string(v) != "again" || a.all(t) != b.all(t) {
		t.Errorf("a:\n%s\nb:\n%s", a.all(t), b.all(t))
	}
}

func TestSettingTheSameIsNoChange(t *testing.T) {
	m := newTestMap("a")
	changed, stop := m.Watch()
	defer stop()
	check(t, m.Set("k", []byte("v")))
	<-changed
	before := m.all(t)
	m.at = m.at.Add(time.Second)
	check(t, m.Set("k", []byte("v")))
	if m.all(t) != before || len(changed) != 0 {
		t.Error("a value that was there already made a change")
	}
}

func TestWatchHearsOfEveryChange(t *testing.T) {
	a, b := newTestMap("a"), newTestMap("b")
	changed, stop := b.Watch()
	hears := func(what string) {
		t.Helper()
		select {
		case <-changed:
		default:
			t.Errorf("not told: %s", what)
		}
	}
	check(t, b.Set("own", nil))
	check(t, b.Set("own2", nil)) // nobody reads meanwhile
	hears("own change")
	b.Delete("own")
	hears("own delete")
	check(t, a.Set("k", nil))
	b.pull(t, a)
	hears("change of a peer")
	b.pull(t, a)
	if len(changed) != 0 {
		t.Error("told of nothing new")
	}
	stop()
	check(t, b.Set("late", nil))
	if len(changed) != 0 {
		t.Error("told after stop")
	}
}

// What comes by gossip is told on, so that it reaches all where packets are lost; a whole map is not.
func TestRelay(t *testing.T) {
	m := newTestMap("a")
	var sent []string
	m.attach(func(e entry) { sent = append(sent, e.key) })
	at := func(key string, ms int64) []entry {
		return []entry{{key: key, stamp: stamp{m.at.UnixMilli() + ms, 0, "b"}}}
	}
	check(t, m.Set("own", nil))
	m.merge(at("gossip", 1), true)
	m.merge(at("gossip", 1), true) // known: it must not go round for ever
	m.merge(at("gossip", 0), true)
	m.merge(at("whole", 1), false)
	m.Delete("own")
	m.attach(nil)
	check(t, m.Set("late", nil))
	if got := fmt.Sprint(sent); got != "[own gossip own]" {
		t.Errorf("sent %s", got)
	}
}

func TestTombstonesAreKeptAndThenForgotten(t *testing.T) {
	a, b := newTestMap("a"), newTestMap("b")
	check(t, a.Set("k", []byte("v")))
	b.pull(t, a)
	a.Delete("k")
	// b was away for less than a tombstone's life
	a.at = a.at.Add(TombstoneLife - time.Minute)
	b.at = a.at
	b.pull(t, a)
	a.pull(t, b)
	if _, ok := b.Get("k"); ok {
		t.Error("a deleted key came back")
	}
	// then both forget, and a map that has not yet does not bring the tombstone back
	late := newTestMap("late")
	late.pull(t, a)
	a.at = a.at.Add(2 * time.Hour)
	late.at = a.at
	check(t, a.Set("other", nil))
	if _, tombstones := a.counts(); tombstones != 0 {
		t.Errorf("%d tombstones past their life", tombstones)
	}
	if late.swept = late.at.UnixMilli(); len(late.entries) != 1 {
		t.Fatalf("late has %d entries", len(late.entries))
	}
	if did := a.pull(t, late); did.taken != 0 || a.tombstones != 0 {
		t.Errorf("took %d entries, and has %d tombstones", did.taken, a.tombstones)
	}
}

func TestChangesFromTheFutureAreRefused(t *testing.T) {
	a, b := newTestMap("a"), newTestMap("b")
	check(t, b.Set("k", []byte("ours")))
	a.at = b.at.Add(MaxAhead + time.Second)
	check(t, a.Set("k", []byte("theirs")))
	check(t, a.Set("l", []byte("theirs")))
	did := b.pull(t, a)
	if did.taken != 0 || len(did.ahead) != 2 {
		t.Errorf("took %d, refused %d", did.taken, len(did.ahead))
	}
	if v, _ := b.Get("k"); string(v) != "ours" || b.clock.last.wall != b.at.UnixMilli() {
		t.Errorf("k is %q, and the clock at %v", v, b.clock.last)
	}
	b.at = b.at.Add(time.Second) // at the bound it is taken
	if did := b.pull(t, a); did.taken != 2 {
		t.Errorf("took %d", did.taken)
	}
}

func TestSetRefuses(t *testing.T) {
	m := newTestMap("a")
	for _, key := range []string{"", "\xff", "a\tb", strings.Repeat("k", MaxKey+1)} {
		if err := m.Set(key, nil); err == nil {
			t.Errorf("%q was taken", key)
		}
	}
	if err := m.Set("k", make([]byte, MaxSize-1)); err != nil {
		t.Error(err)
	}
	if err := m.Set("k", make([]byte, MaxSize)); err == nil {
		t.Error("a value that is too long was taken")
	}
}

// A peer that sends ever new keys fills the map to its bound, and no further; keys that are there can change and go.
func TestMapIsBounded(t *testing.T) {
	t.Run("count", func(t *testing.T) {
		m := newTestMap("a")
		check(t, m.Set("own", []byte("1")))
		fill := make([]entry, MaxEntries)
		for i := range fill {
			fill[i] = entry{key: fmt.Sprintf("k%08d", i), stamp: stamp{m.at.UnixMilli(), 0, "evil"}}
		}
		if did := m.merge(fill, false); did.taken != MaxEntries-1 || did.full != 1 {
			t.Errorf("took %d, refused %d", did.taken, did.full)
		}
		fullMapWorks(t, m)
	})
	t.Run("bytes", func(t *testing.T) {
		m := newTestMap("a")
		check(t, m.Set("own", []byte("1")))
		fill := make([]entry, MaxEntries/2)
		for i := range fill {
			fill[i] = entry{key: fmt.Sprintf("k%08d", i), value: strings.Repeat("v", 1000), stamp: stamp{m.at.UnixMilli(), 0, "evil"}}
		}
		if did := m.merge(fill, false); did.full == 0 || m.bytes > maxBytes {
			t.Errorf("refused %d, and has %d bytes", did.full, m.bytes)
		}
		fullMapWorks(t, m)
	})
}

func fullMapWorks(t *testing.T, m *testMap) {
	t.Helper()
	if err := m.Set(strings.Repeat("n", 500), []byte(strings.Repeat("v", 700))); !errors.Is(err, ErrFull) {
		t.Errorf("a new key: %v, want ErrFull", err)
	}
	check(t, m.Set("own", []byte("2")))
	if !m.Delete("own") {
		t.Error("own was not there")
	}
	if _, err := decode(m.encode()); err != nil {
		t.Errorf("peers cannot read a full map: %v", err)
	}
}

// Three members make changes and hear of each other's in any order, more than once, over ways of their own. In the end
// all that have heard of everything hold the same bytes: merging is commutative, associative and idempotent.
func TestMergeConverges(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		maps := []*testMap{newTestMap("a"), newTestMap("b"), newTestMap("b")} // two of one name, by mistake
		for range 60 {
			m := maps[rnd.IntN(len(maps))]
			key := string(rune('k' + rnd.IntN(4)))
			switch rnd.IntN(6) {
			case 0, 1:
				check(t, m.Set(key, []byte{byte(rnd.IntN(3))}))
			case 2:
				m.Delete(key)
			case 3:
				m.at = m.at.Add(time.Duration(rnd.IntN(5)-2) * time.Millisecond) // back too
			default:
				m.pull(t, maps[rnd.IntN(len(maps))])
			}
		}
		var all [][]entry
		for _, m := range maps {
			msg, err := decode(m.encode())
			check(t, err)
			all = append(all, msg.entries)
		}
		var want []byte
		for range 6 {
			fresh := newTestMap("fresh")
			order := slices.Concat(rnd.Perm(len(all)), rnd.Perm(len(all))) // each twice
			for _, i := range order {
				es := slices.Clone(all[i])
				rnd.Shuffle(len(es), func(i, j int) { es[i], es[j] = es[j], es[i] })
				cut := rnd.IntN(len(es) + 1) // and in parts
				fresh.merge(es[:cut], true)
				fresh.merge(es[cut:], true)
			}
			got := fresh.encode()
			if want == nil {
				want = got
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("seed %d: two orders give\n%x\n%x", seed, got, want)
			}
		}
		for range 2 {
			for i, m := range maps {
				m.pull(t, maps[(i+1)%3])
				m.pull(t, maps[(i+2)%3])
			}
		}
		for _, m := range maps {
			if !bytes.Equal(m.encode(), want) {
				t.Fatalf("seed %d: %s holds\n%s", seed, m.clock.node, m.all(t))
			}
		}
	}
}

// The order of changes is a total one: without that merging could not be associative.
func TestChangesAreOrdered(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func() entry {
		e := entry{key: "k", stamp: stamp{int64(rnd.IntN(2)), uint32(rnd.IntN(2)), string(rune('a' + rnd.IntN(2)))}, deleted: rnd.IntN(2) == 0}
		if !e.deleted {
			e.value = string(rune('v' + rnd.IntN(2)))
		}
		return e
	}
	for range 20000 {
		a, b, c := random(), random(), random()
		if a.compare(b) != -b.compare(a) || (a.compare(b) == 0) != (a == b) {
			t.Fatalf("%v and %v", a, b)
		}
		if a.compare(b) <= 0 && b.compare(c) <= 0 && a.compare(c) > 0 {
			t.Fatalf("%v, %v and %v", a, b, c)
		}
		if cmp.Compare(a.stamp.wall, b.stamp.wall) > 0 && a.compare(b) < 0 {
			t.Fatalf("%v before %v", a, b)
		}
	}
}
