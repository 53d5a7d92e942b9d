package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// goneFor is how long a member that is gone is shown, and looked for if it was lost.
const goneFor = 7 * 24 * time.Hour

// The states of a member.
const (
	Alive = "alive" // it answers
	Lost  = "lost"  // it stopped answering
	Left  = "left"  // it said that it ends
)

// Member is one member of the mesh, as this one sees it.
type Member struct {
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
	State   string         `json:"state"` // Alive, Lost or Left
	Since   time.Time      `json:"since"` // in this state
	Self    bool           `json:"self"`  // this member itself
}

// members is the table behind Members. memberlist forgets a dead member after a while, and does not say whether one left
// or was lost.
type members struct {
	self  string
	reuse time.Duration // after so long the place of a member that is gone may be taken, when all are

	mu     sync.Mutex
	byName map[string]Member
	met    map[string]time.Time // since when a member is alive with which whole maps were exchanged after that
}

func newMembers(self string, reuse time.Duration) *members {
	return &members{self: self, reuse: reuse, byName: map[string]Member{}, met: map[string]time.Time{}}
}

// admit says whether a member may come in, or why not. Who is known may stay.
func (t *members) admit(name string, addr netip.AddrPort, now time.Time) error {
	switch {
	case !ValidName(name):
		return errors.New("no name of a member")
	case !addr.IsValid() || addr.Port() == 0:
		return fmt.Errorf("no address: %v", addr)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.byName[name]; known || len(t.byName) < MaxMembers {
		return nil
	}
	oldest := Member{Since: now.Add(-t.reuse)}
	for _, m := range t.byName {
		if m.State != Alive && m.Since.Before(oldest.Since) {
			oldest = m
		}
	}
	if oldest.Name == "" {
		return fmt.Errorf("there are %d members already", MaxMembers)
	}
	t.forget(oldest.Name)
	return nil
}

// set notes a state. It says whether it was another one before.
func (t *members) set(name string, addr netip.AddrPort, state string, now time.Time) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.byName[name]
	if !known && len(t.byName) >= MaxMembers || known && old.State == state && old.Address == addr {
		return false
	}
	t.byName[name] = Member{Name: name, Address: addr, State: state, Since: now, Self: name == t.self}
	return true
}

// gone notes that memberlist has seen a member go.
func (t *members) gone(name string, now time.Time) (m Member, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, known := t.byName[name]
	if !known || m.State != Alive {
		return m, false
	}
	m.State, m.Since = Lost, now
	if m.Self {
		m.State = Left
	}
	t.byName[name] = m
	return m, true
}

// remember has members of before, but this one and those that left, count as lost. Those that were alive are since at.
func (t *members) remember(list []Member, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range list {
		_, known := t.byName[m.Name]
		if known || m.Name == t.self || m.State == Left || !ValidName(m.Name) || !m.Address.IsValid() || len(t.byName) >= MaxMembers-1 {
			continue // the last place is our own
		}
		if m.State == Alive {
			m.Since = at
		}
		t.byName[m.Name] = Member{Name: m.Name, Address: m.Address, State: Lost, Since: m.Since}
	}
}

// prune forgets who has been gone for long.
func (t *members) prune(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, m := range t.byName {
		if m.State != Alive && now.Sub(m.Since) > goneFor {
			t.forget(name)
		}
	}
}

// forget drops a member. The caller holds mu.
func (t *members) forget(name string) {
	delete(t.byName, name)
	delete(t.met, name)
}

// unmet gives the others that are alive and with which whole maps were not exchanged since they came.
func (t *members) unmet() []Member {
	return slices.DeleteFunc(t.list(), func(m Member) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		since, met := t.met[m.Name]
		return m.State != Alive || m.Self || met && since.Equal(m.Since)
	})
}

// meets notes that whole maps were exchanged with a member since it came.
func (t *members) meets(m Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.byName[m.Name]; known {
		t.met[m.Name] = m.Since
	}
}

// leaves notes that a member said that it ends, which may be heard before memberlist sees it go or after.
func (t *members) leaves(name string, now time.Time) (m Member, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, known := t.byName[name]
	if !known || m.State == Left || m.Self {
		return m, false
	}
	m.State, m.Since = Left, now
	t.byName[name] = m
	return m, true
}

// list gives all members in the order of their names.
func (t *members) list() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Member, 0, len(t.byName))
	for _, m := range t.byName {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// wanted gives the addresses at which nobody is known to be alive and somebody may be: those of the config, and those
// where a lost member was. Who left comes back by itself.
func wanted(self netip.AddrPort, join []netip.AddrPort, list []Member) []netip.AddrPort {
	have := []netip.AddrPort{self}
	want := slices.Clone(join)
	for _, m := range list {
		switch m.State {
		case Alive:
			have = append(have, m.Address)
		case Lost:
			want = append(want, m.Address)
		}
	}
	slices.SortFunc(want, netip.AddrPort.Compare)
	return slices.DeleteFunc(slices.Compact(want), func(a netip.AddrPort) bool { return slices.Contains(have, a) })
}
