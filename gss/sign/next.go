package sign

import (
	"reflect"
	"slices"
	"time"
)

// Inputs are what Next judges by, beside the state.
type Inputs struct {
	Policy   Policy
	Observed *Observation // news from the parent, or by order; nil if there are none
	Spare    *Spare       // a key that was made as Decision.Need asked
	Behind   time.Time    // when some server of the zone last answered by a Decision older than the last, as far as is known
}

// Spare is a key that was made and is in no state yet.
type Spare struct {
	ID        string
	Algorithm uint8
}

// Decision is what is to be done until the next.
type Decision struct {
	Serial  uint64   // of the state, by which servers compare
	DNSKEY  []string // IDs of keys in the DNSKEY set, which all sign it
	Data    []string // that sign the zone's data
	Request Request  // for CDS and CDNSKEY
	Need    uint8    // make a key of this algorithm and call Next with it; 0: none is needed
	Next    time.Time
	Keys    []KeyStatus
	Alarm   string // what someone should do; "" is good

	// Expected says that a validator may hold the zone to its signatures: caches may have a DS record, or the parent, or it was
	// asked for one. Else the zone may go without at any time.
	Expected bool
}

// Next takes the state one step further, as far as is safe now. It is pure. The caller keeps the state before it answers by
// the decision, and calls Next at Decision.Next, when there is an observation, after an order, and whenever it likes.
//
// What it keeps true: a validator with any caches, each with what was there at any time that its TTL allows, finds a
// path from the DS set over the DNSKEY set to any data. It keeps record of what caches may hold of the three, and changes one
// of them only if then each combination still is such a path, or has no DS record.
func Next(s State, in Inputs, now time.Time) (State, Decision) {
	s, before := s.clone(), s
	now = now.UTC().Round(0) // as it is on disk
	m := machine{State: s, policy: in.Policy, now: now}
	ahead := m.ahead()
	m.begin()
	if ahead > maxAhead { // what is noted by this clock might be taken later for older than it is
		return before, m.decide(0)
	}
	m.hold(in.Behind)
	m.observe(in.Observed)
	m.forget()
	need := m.choose(in.Spare)
	for m.move() {
	}
	if need == 0 { // the end of one roll may be the time of the next
		need = m.choose(in.Spare)
		for m.move() {
		}
	}
	if changed(before, m.State) {
		m.Serial++
	}
	return m.State, m.decide(need)
}

func changed(a, b State) bool {
	a.Seen, b.Seen = Observation{}, Observation{}
	b.Serial = a.Serial
	return !reflect.DeepEqual(a, b)
}

// ahead is by how much the clock was ahead of this one when the state was made.
func (m *machine) ahead() time.Duration { return m.latest().Sub(m.now) }

// Look tells what a state means without taking it further, for servers that follow what another of the zone's decides.
func Look(s State, p Policy, now time.Time) Decision {
	m := machine{State: s.clone(), policy: p, now: now.UTC().Round(0)}
	m.begin()
	return m.decide(0)
}

// machine is a State on its way to the next.
type machine struct {
	State
	policy Policy
	now    time.Time
}

// begin sets the state of a zone that was never signed, and notes TTLs that are greater than before.
func (m *machine) begin() {
	if m.Keys == nil {
		m.Keys = map[string]KeyRecord{}
	}
	p := &m.policy
	for _, vs := range []*[]Version{&m.DNSKEY, &m.Data, &m.DS} {
		if len(*vs) == 0 {
			*vs = []Version{{From: m.now}}
		}
	}
	v := &m.DNSKEY[len(m.DNSKEY)-1]
	v.TTL, v.Lag = max(v.TTL, p.keyTTL(v.Keys)), max(v.Lag, p.Propagation)
	v = &m.Data[len(m.Data)-1]
	v.TTL, v.Lag = max(v.TTL, p.MaxTTL), max(v.Lag, p.Propagation)
	for i := range m.DS {
		if v := &m.DS[i]; v.Until.IsZero() {
			v.TTL, v.Lag = max(v.TTL, p.ParentTTL), max(v.Lag, p.ParentPropagation)
		}
	}
}

// hold keeps what was replaced for as long as some server answered by it.
func (m *machine) hold(behind time.Time) {
	if behind = behind.UTC().Round(0); behind.After(m.now) {
		behind = m.now
	}
	for _, vs := range [][]Version{m.DNSKEY, m.Data} {
		for i := range vs {
			if v := &vs[i]; !v.Until.IsZero() && v.Until.Before(behind) {
				v.Until = behind
			}
		}
	}
	for i := range m.DS {
		if v := &m.DS[i]; !v.Withdrawn.IsZero() && v.Withdrawn.Before(behind) {
			v.Withdrawn = behind // the parent may have read CDS there
		}
	}
}

// observe takes in what the parent has.
func (m *machine) observe(o *Observation) {
	if o == nil || o.At.Before(m.Seen.At) {
		return
	}
	for _, set := range o.Sets {
		i := slices.IndexFunc(m.DS, func(v Version) bool { return v.Until.IsZero() && same(v.Keys, set) })
		if i < 0 && len(m.DS) >= maxVersions {
			continue
		}
		if i < 0 {
			m.DS = append(m.DS, m.dsVersion(set))
			i = len(m.DS) - 1
		}
		m.DS[i].TTL = max(m.DS[i].TTL, o.TTL)
	}
	if !o.Complete || len(o.Sets) == 0 {
		return
	}
	m.Seen = *o
	done := m.Request.Fresh && len(o.Sets) == 1 && same(o.Sets[0], m.Request.Keys) && !o.At.Before(m.Request.Since)
	for i := range m.DS {
		v := &m.DS[i]
		seen := slices.ContainsFunc(o.Sets, func(set []string) bool { return same(set, v.Keys) })
		if !v.Until.IsZero() || seen || m.asked() && same(v.Keys, m.Request.Keys) {
			continue
		}
		// The parent takes requests in their order, so one that was taken back is void once a later one is done.
		if v.Withdrawn.IsZero() || done || o.At.After(v.Withdrawn.Add(m.policy.KeyTTL+m.policy.Propagation+m.policy.Registration)) {
			v.Until = o.At
		}
	}
}

// asked says whether there are CDS records.
func (m *machine) asked() bool { return m.Request.Delete || len(m.Request.Keys) > 0 }

// choose sets the goal, and tells the algorithm of a key that is to be made.
func (m *machine) choose(spare *Spare) (need uint8) {
	if m.policy.Insecure {
		m.Goal, m.Roll = "", false
		return 0
	}
	goal, ok := m.Keys[m.Goal]
	if ok && !goal.Compromised && !m.Roll && goal.Algorithm == m.policy.Algorithm && !m.expired() {
		return 0
	}
	if len(m.Keys) >= maxKeys { // until some are forgotten
		return 0
	}
	if spare == nil || spare.Algorithm != m.policy.Algorithm {
		return m.policy.Algorithm
	}
	if _, used := m.Keys[spare.ID]; used {
		return m.policy.Algorithm
	}
	m.Keys[spare.ID] = KeyRecord{Algorithm: spare.Algorithm, Made: m.now}
	m.Goal, m.Roll = spare.ID, false
	return 0
}

// expired says whether the goal was alone for its lifetime.
func (m *machine) expired() bool {
	end := m.lifeEnd()
	return !end.IsZero() && !m.now.Before(end)
}

// lifeEnd is when the next key is to be made; zero if that is not known yet.
func (m *machine) lifeEnd() time.Time {
	trusted := m.Keys[m.Goal].Trusted
	if m.policy.Lifetime == 0 || trusted.IsZero() || len(current(m.DNSKEY)) > 1 || len(current(m.Data)) > 1 {
		return time.Time{}
	}
	return trusted.Add(m.policy.Lifetime)
}

// move does one thing that leads to the goal and is safe, and says whether there was one.
func (m *machine) move() bool {
	if m.Goal == "" {
		return m.moveInsecure()
	}
	keys, data := current(m.DNSKEY), current(m.Data)
	switch {
	case !slices.Contains(keys, m.Goal):
		// Of another algorithm, a key has to sign all before it is seen (RFC 6781 section 4.1.4).
		return m.try(with(keys, m.Goal), data) || m.try(keys, with(data, m.Goal))
	case len(data) == 0:
		return m.try(keys, []string{m.Goal})
	case !same(m.Request.Keys, []string{m.Goal}):
		return m.request(Request{Keys: []string{m.Goal}})
	case !m.trusted():
		return false
	}
	if k := m.Keys[m.Goal]; k.Trusted.IsZero() {
		k.Trusted = m.now
		m.Keys[m.Goal] = k
	}
	only := []string{m.Goal}
	if !same(data, only) && (m.try(keys, only) || m.try(keys, with(data, m.Goal))) {
		return true
	}
	for _, id := range keys {
		if id != m.Goal && !m.pointed(id) && m.try(minus(keys, id), data) {
			return true
		}
	}
	return false
}

// moveInsecure asks for the DS set to be removed (RFC 8078 section 4), and then unsigns the zone.
func (m *machine) moveInsecure() bool {
	keys, data := current(m.DNSKEY), current(m.Data)
	if len(keys)+len(data) == 0 {
		if m.asked() {
			m.setRequest(Request{})
			return true
		}
		return false
	}
	if m.expected() {
		return !m.Request.Delete && m.request(Request{Delete: true})
	}
	return m.try(nil, nil)
}

// expected says whether a cache may hold a DS set that is not empty.
func (m *machine) expected() bool {
	return slices.ContainsFunc(m.DS, func(v Version) bool { return v.possible(m.now) && len(v.Keys) > 0 })
}

// trusted says whether each DS set that a cache may hold has the goal.
func (m *machine) trusted() bool {
	return !slices.ContainsFunc(m.DS, func(v Version) bool { return v.possible(m.now) && !slices.Contains(v.Keys, m.Goal) })
}

// pointed says whether a DS set that a cache may hold has the key.
func (m *machine) pointed(id string) bool {
	return slices.ContainsFunc(m.DS, func(v Version) bool { return v.possible(m.now) && slices.Contains(v.Keys, id) })
}

// try changes the sets if that is safe, and something changes.
func (m *machine) try(keys, data []string) bool {
	if same(keys, current(m.DNSKEY)) && same(data, current(m.Data)) || !m.safe(keys, data, nil) {
		return false
	}
	m.DNSKEY = m.replace(m.DNSKEY, keys, m.policy.keyTTL(keys))
	m.Data = m.replace(m.Data, data, m.policy.MaxTTL)
	return true
}

func (m *machine) replace(vs []Version, keys []string, ttl time.Duration) []Version {
	if same(current(vs), keys) {
		return vs
	}
	vs[len(vs)-1].Until = m.now
	return append(vs, Version{Keys: keys, From: m.now, TTL: ttl, Lag: m.policy.Propagation})
}

// request asks the parent for something if each answer it may give, and when, is safe.
func (m *machine) request(r Request) bool {
	if !m.safe(current(m.DNSKEY), current(m.Data), &r.Keys) {
		return false
	}
	m.setRequest(r)
	return true
}

func (m *machine) setRequest(r Request) {
	if m.asked() {
		for i := range m.DS {
			if m.DS[i].Until.IsZero() && same(m.DS[i].Keys, m.Request.Keys) {
				m.DS[i].Withdrawn = m.now
			}
		}
	}
	r.Since = m.now
	m.Request = r
	if !m.asked() {
		return
	}
	// What caches may hold, the parent may have had a moment ago, and so may have again by an older request.
	r.Fresh = !slices.ContainsFunc(m.DS, func(v Version) bool { return v.possible(m.now) && same(v.Keys, r.Keys) })
	m.Request = r
	for i := range m.DS {
		if m.DS[i].Until.IsZero() && same(m.DS[i].Keys, r.Keys) {
			m.DS[i].Withdrawn = time.Time{}
			return
		}
	}
	m.DS = append(m.DS, m.dsVersion(r.Keys))
}

func (m *machine) dsVersion(keys []string) Version {
	return Version{Keys: keys, From: m.now, TTL: m.policy.ParentTTL, Lag: m.policy.ParentPropagation}
}

// forget drops versions that no cache holds, and keys that are in none.
func (m *machine) forget() {
	used := map[string]bool{m.Goal: true}
	for _, vs := range []*[]Version{&m.DNSKEY, &m.Data, &m.DS} {
		*vs = slices.DeleteFunc(*vs, func(v Version) bool { return !v.possible(m.now) })
		for _, v := range *vs {
			for _, id := range v.Keys {
				used[id] = true
			}
		}
	}
	for id := range m.Keys {
		if !used[id] {
			delete(m.Keys, id)
		}
	}
}
