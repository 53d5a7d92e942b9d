package sign

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// KeyStatus is what there is to say of one key.
type KeyStatus struct {
	ID    string    `json:"id"`
	State KeyState  `json:"state"`
	Since time.Time `json:"since"`
	Waits string    `json:"waits,omitempty"` // for what
	Until time.Time `json:"until,omitzero"`  // zero: it is not known when
}

// KeyState is where a key is in its life.
type KeyState string

// The states, in the order of a life.
const (
	Made      KeyState = "made"      // seen by nobody
	Signing   KeyState = "signing"   // signs, and is not published yet: the algorithm changes
	Published KeyState = "published" // in the DNSKEY set, until all caches have it
	Ready     KeyState = "ready"     // the parent is asked for its DS record, until that is all that caches have
	Active    KeyState = "active"    // signs, and is the one that the parent points at
	Retired   KeyState = "retired"   // published still, until caches have nothing that needs it
	Withdrawn KeyState = "withdrawn" // signs still, but is not published: the algorithm changes
	Gone      KeyState = "gone"      // nowhere, but caches may know it
)

// decide tells what the state means.
func (m *machine) decide(need uint8) Decision {
	d := Decision{Serial: m.Serial, DNSKEY: current(m.DNSKEY), Data: current(m.Data), Request: m.Request, Need: need}
	for _, id := range slices.Sorted(maps.Keys(m.Keys)) {
		d.Keys = append(d.Keys, m.keyStatus(id))
	}
	d.Next = m.lifeEnd()
	for _, vs := range [][]Version{m.DNSKEY, m.Data, m.DS} {
		for _, v := range vs {
			d.Next = earlier(d.Next, v.gone())
		}
	}
	d.Alarm, d.Expected = m.alarm(), m.expected()
	return d
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// lastGone is when the last of some versions is gone from caches; zero if some are still in place, or if there are none.
func (m *machine) lastGone(vs []Version, which func(keys []string) bool) (at time.Time, open bool) {
	for _, v := range vs {
		if !v.possible(m.now) || !which(v.Keys) {
			continue
		}
		if v.Until.IsZero() {
			open = true
		} else if g := v.gone(); g.After(at) {
			at = g
		}
	}
	return at, open
}

func (m *machine) keyStatus(id string) KeyStatus {
	has := func(keys []string) bool { return slices.Contains(keys, id) }
	lacks := func(keys []string) bool { return !slices.Contains(keys, id) }
	k := KeyStatus{ID: id, Since: m.Keys[id].Made}
	published, signs := has(current(m.DNSKEY)), has(current(m.Data))
	switch {
	case id == m.Goal && !published && signs:
		k.State, k.Since = Signing, m.since(m.Data, id)
		k.Waits = "for caches to have its signatures"
		k.Until, _ = m.lastGone(m.Data, lacks)
	case id == m.Goal && !published:
		k.State, k.Waits = Made, "for earlier changes to be in all caches"
	case id == m.Goal && !slices.Contains(m.Request.Keys, id):
		k.State, k.Since = Published, m.since(m.DNSKEY, id)
		k.Waits = "for caches to have it, and signatures"
		keys, _ := m.lastGone(m.DNSKEY, lacks)
		data, _ := m.lastGone(m.Data, func(keys []string) bool { return len(keys) == 0 })
		k.Until = later(keys, data)
	case id == m.Goal && !m.trusted():
		k.State, k.Since = Ready, m.Request.Since
		at, open := m.lastGone(m.DS, lacks)
		if k.Waits, k.Until = "for caches to lose the former DS records", at; open {
			k.Waits, k.Until = "for the parent to have its DS record, and no former one, on all servers", time.Time{}
		}
	case id == m.Goal:
		k.State, k.Since = Active, m.Keys[id].Trusted
		if end := m.lifeEnd(); !end.IsZero() {
			k.Waits, k.Until = "for the end of its life", end
		}
	case published:
		k.State, k.Since = Retired, m.since(m.DNSKEY, id)
		k.Waits, k.Until = m.retiredWaits(id)
	case signs:
		k.State, k.Since = Withdrawn, m.since(m.Data, id)
		k.Waits = "for caches to lose the DNSKEY set with it"
		k.Until, _ = m.lastGone(m.DNSKEY, has)
	default:
		k.State = Gone
		for _, vs := range [][]Version{m.DNSKEY, m.Data, m.DS} {
			at, _ := m.lastGone(vs, has)
			k.Until = later(k.Until, at)
		}
		k.Waits = "for caches to lose it"
	}
	return k
}

func (m *machine) retiredWaits(id string) (waits string, until time.Time) {
	has := func(keys []string) bool { return slices.Contains(keys, id) }
	at, open := m.lastGone(m.DS, has)
	switch {
	case open:
		return "for the parent to lose its DS record", time.Time{}
	case !at.IsZero():
		return "for caches to lose its DS record", at
	}
	at, _ = m.lastGone(m.Data, func(keys []string) bool { return same(keys, []string{id}) })
	if at.IsZero() {
		return "for the next key", time.Time{}
	}
	return "for caches to lose its signatures", at
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// since is since when the key is in place without a break.
func (m *machine) since(vs []Version, id string) time.Time {
	since := m.now
	for i := len(vs) - 1; i >= 0 && slices.Contains(vs[i].Keys, id); i-- {
		since = vs[i].From
	}
	return since
}

// maxAhead is how far the clock may have been ahead that nobody has to care.
const maxAhead = 10 * time.Minute

// alarm says what is wrong and only a person can mend.
func (m *machine) alarm() string {
	if by := m.ahead(); by > maxAhead {
		return fmt.Sprintf("the clock is wrong, or was %v ahead when the state of the keys was written, and nothing moves until then; "+
			"if it is right now, say so by `anycastle confirm`, once the parent has what it is asked for", by.Round(time.Minute))
	}
	for _, set := range m.Seen.Sets {
		if len(set) > 0 && !slices.ContainsFunc(set, func(id string) bool { return slices.Contains(current(m.DNSKEY), id) }) {
			return fmt.Sprintf("the parent has DS records of other keys only (%s): validators refuse the zone; "+
				"have the parent take the zone's CDS records, or remove its own", strings.Join(set, ", "))
		}
	}
	return ""
}
