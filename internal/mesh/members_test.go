package mesh

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestMembersTable(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tick := func() time.Time { at = at.Add(time.Second); return at }
	start := at
	a, b := addrPort("198.51.100.1:7946"), addrPort("198.51.100.3:7946")
	m := newMembers("lb1", time.Minute)
	if !m.set("lb1", a, Alive, tick()) || !m.set("lb2", b, Alive, tick()) || m.set("lb2", b, Alive, tick()) {
		t.Error("set is wrong about what changed")
	}
	expect := func(what, state string, sec int) {
		t.Helper()
		want := []Member{
			{Name: "lb1", Address: a, State: Alive, Since: start.Add(time.Second), Self: true},
			{Name: "lb2", Address: b, State: state, Since: start.Add(time.Duration(sec) * time.Second)},
		}
		if diff := cmp.Diff(want, m.list(), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	expect("both there", Alive, 2)
	m.gone("lb2", tick())
	expect("lost", Lost, 4)
	if _, changed := m.gone("lb2", tick()); changed {
		t.Error("lost twice")
	}
	m.leaves("lb2", tick()) // what it said is heard late
	expect("left after all", Left, 6)
	m.set("lb2", b, Alive, tick())
	m.leaves("lb2", tick())
	m.gone("lb2", tick())
	expect("left", Left, 8)
	if _, changed := m.leaves("lb1", tick()); changed {
		t.Error("somebody else said that we leave, and we believed it")
	}
	if _, changed := m.gone("lb9", tick()); changed {
		t.Error("who is not known is gone")
	}
	m.prune(at.Add(goneFor))
	if n := len(m.list()); n != 1 {
		t.Errorf("%d members after a week", n)
	}
}

func TestMembersAreBounded(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := addrPort("198.51.100.1:7946")
	m := newMembers("lb0", time.Minute)
	for i := range MaxMembers {
		name := fmt.Sprintf("lb%d", i)
		check(t, m.admit(name, a, at))
		m.set(name, a, Alive, at)
	}
	if err := m.admit("one-more", a, at); err == nil {
		t.Error("one more than there may be was let in")
	}
	m.set("one-more", a, Alive, at)
	if n := len(m.list()); n != MaxMembers {
		t.Errorf("%d members", n)
	}
	check(t, m.admit("lb7", a, at)) // who is in stays
	m.gone("lb7", at)
	if err := m.admit("one-more", a, at.Add(30*time.Second)); err == nil {
		t.Error("the place of one just lost was taken")
	}
	check(t, m.admit("one-more", a, at.Add(2*time.Minute)))
	for _, name := range []string{"", "a b", "x/y"} {
		if err := m.admit(name, a, at); err == nil {
			t.Errorf("%q was let in", name)
		}
	}
	for _, addr := range []netip.AddrPort{{}, addrPort("198.51.100.1:0")} {
		if err := m.admit("lb1", addr, at); err == nil {
			t.Errorf("address %v was let in", addr)
		}
	}
}

func TestWanted(t *testing.T) {
	self := addrPort("198.51.100.1:7946")
	join := addrPorts("198.51.100.1:7946", "198.51.100.3:7946", "198.51.100.5:7946")
	got := wanted(self, join, []Member{
		{Name: "lb1", Address: self, State: Alive, Self: true},
		{Name: "lb2", Address: join[1], State: Alive},
		{Name: "lb4", Address: addrPort("198.51.100.9:7946"), State: Lost},
		{Name: "lb5", Address: addrPort("198.51.100.11:7946"), State: Left},
		{Name: "lb6", Address: join[2], State: Lost},
	})
	want := addrPorts("198.51.100.5:7946", "198.51.100.9:7946")
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(self)); diff != "" {
		t.Errorf("wanted (-want +got):\n%s", diff)
	}
}

func TestJitter(t *testing.T) {
	for random, want := range map[float64]time.Duration{0: 5 * time.Second, 0.5: 10 * time.Second, 0.999: 14990 * time.Millisecond} {
		if got := jitter(10*time.Second, random); got != want {
			t.Errorf("jitter(10s, %v) is %v, want %v", random, got, want)
		}
	}
}

// A member that was met and was lost since is to be met again when it is back.
func TestUnmet(t *testing.T) {
	list := newMembers("self", time.Minute)
	now := time.Now()
	list.set("self", netip.MustParseAddrPort("127.0.0.1:1"), Alive, now)
	list.set("b", netip.MustParseAddrPort("127.0.0.2:1"), Alive, now)
	unmet := func(want int, when string) {
		t.Helper()
		if got := list.unmet(); len(got) != want {
			t.Errorf("%s: %v, want %d", when, got, want)
		}
	}
	unmet(1, "at first")
	before := list.unmet()[0]
	list.meets(before)
	unmet(0, "once met")
	list.gone("b", now.Add(time.Second))
	unmet(0, "while lost")
	list.set("b", before.Address, Alive, now.Add(2*time.Second))
	unmet(1, "when back")
	list.meets(before)
	unmet(1, "when a meeting from before ends late")
}

func TestMembersOfBefore(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := addrPort("198.51.100.1:7946")
	m := newMembers("lb1", time.Minute)
	m.remember([]Member{
		{Name: "lb1", Address: a, State: Alive, Since: at.Add(-time.Hour)},
		{Name: "lb2", Address: a, State: Alive, Since: at.Add(-time.Hour)},
		{Name: "lb3", Address: a, State: Lost, Since: at.Add(-6 * 24 * time.Hour)},
		{Name: "lb4", Address: a, State: Left, Since: at.Add(-time.Hour)},
		{Name: "no name", Address: a, State: Alive},
		{Name: "lb5", State: Alive},
	}, at)
	want := []Member{{Name: "lb2", Address: a, State: Lost, Since: at}, {Name: "lb3", Address: a, State: Lost, Since: at.Add(-6 * 24 * time.Hour)}}
	if diff := cmp.Diff(want, m.list(), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	m.prune(at.Add(2 * 24 * time.Hour))
	if !m.set("lb2", a, Alive, at) || len(m.list()) != 1 {
		t.Errorf("later they are %+v", m.list())
	}
	var many []Member
	for i := range 2 * MaxMembers {
		many = append(many, Member{Name: fmt.Sprintf("old%d", i), Address: a, State: Alive})
	}
	m.remember(many, at)
	if !m.set("lb1", a, Alive, at) {
		t.Error("there is no place left for this one")
	}
}
