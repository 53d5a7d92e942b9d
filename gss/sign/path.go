package sign

import "slices"

// safe says whether each combination that caches may hold is a path, with these sets, and the DS set if any, among them. Where
// none of ours is at fault, as the parent has DS records that lead nowhere, it says whether nothing gets worse.
func (m *machine) safe(keys, data []string, ds *[]string) bool {
	dsSets := m.possible(m.DS)
	if ds != nil {
		dsSets = append(dsSets, *ds)
	}
	for _, d := range dsSets {
		for _, k := range m.possible(m.DNSKEY, keys) {
			for _, z := range m.possible(m.Data, data) {
				if m.path(d, k, z) {
					continue
				}
				if ds != nil && same(d, *ds) {
					return false
				}
				before, signed := k, z
				if same(k, keys) {
					before = current(m.DNSKEY)
				}
				if same(z, data) {
					signed = current(m.Data)
				}
				if m.path(d, before, signed) {
					return false
				}
			}
		}
	}
	return true
}

// possible gives what caches may hold, and these sets.
func (m *machine) possible(vs []Version, sets ...[]string) [][]string {
	for _, v := range vs {
		if v.possible(m.now) {
			sets = append(sets, v.Keys)
		}
	}
	return sets
}

// path says whether a validator that holds these three sets validates, even one that asks for all algorithms (RFC 4035
// section 2.2), as Unbound can.
func (m *machine) path(ds, keys, data []string) bool {
	entered := len(ds) == 0
	for _, id := range ds {
		k, ours := m.Keys[id]
		if !ours {
			continue
		}
		entered = true
		if !m.covers(ds, keys, k.Algorithm) {
			return false
		}
	}
	if !entered || len(ds) > 0 && len(keys) == 0 {
		return false
	}
	for _, id := range keys {
		if len(ds) > 0 && !m.covers(keys, data, m.Keys[id].Algorithm) {
			return false
		}
	}
	return true
}

// covers says whether two sets share a key of the algorithm.
func (m *machine) covers(a, b []string, algorithm uint8) bool {
	return slices.ContainsFunc(a, func(id string) bool {
		k, ours := m.Keys[id]
		return ours && k.Algorithm == algorithm && slices.Contains(b, id)
	})
}
