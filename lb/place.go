package lb

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"anycastle/bpf"
)

// Indexes mean nothing outside this machine. They are kept from what is installed, so that nothing that stays has to
// move.

// placeReals gives each real an index and puts its entry into want.
func (in *inputs) placeReals(have, want tables) map[realKey]uint32 {
	old := map[realKey]uint32{}
	for index, r := range have.reals {
		old[r.realKey] = index
	}
	index, used := map[realKey]uint32{}, map[uint32]bool{}
	var fresh []realKey
	for _, key := range in.realKeys() {
		if i, ok := old[key]; ok {
			index[key], used[i] = i, true
			want.reals[i] = realEntry{key, in.hops[key.addr].ToInstall()}
		} else {
			fresh = append(fresh, key)
		}
	}
	for _, key := range fresh {
		i := freeIndex(none+1, bpf.MaxReals, used, have.reals)
		index[key], used[i] = i, true
		want.reals[i] = realEntry{key, in.hops[key.addr].ToInstall()}
	}
	return index
}

// realKeys are those of all reals, each once: those of the config, and as many as there is room for of those that have
// left it and still have flows.
func (in *inputs) realKeys() []realKey {
	keys := in.cfg.realKeys()
	seen := map[realKey]bool{}
	for _, key := range keys {
		seen[key] = true
	}
	for i := range in.cfg.Farms {
		state := in.states[in.cfg.Farms[i].Name]
		for _, addr := range slices.SortedFunc(maps.Keys(state), netip.Addr.Compare) {
			if key := (realKey{addr, state[addr].kind()}); !seen[key] && len(keys) < bpf.MaxReals-1 {
				seen[key] = true
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// addresses are those of all reals, each once.
func (in *inputs) addresses() []netip.Addr {
	seen := map[netip.Addr]bool{}
	var addrs []netip.Addr
	for _, key := range in.realKeys() {
		if !seen[key.addr] {
			seen[key.addr] = true
			addrs = append(addrs, key.addr)
		}
	}
	return addrs
}

// realKeys are those of all reals, each once.
func (c *Config) realKeys() []realKey {
	seen := map[realKey]bool{}
	var keys []realKey
	for i := range c.Farms {
		f := &c.Farms[i]
		for j := range f.Reals {
			if key := f.realKey(&f.Reals[j]); !seen[key] {
				seen[key] = true
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// placeFarms gives each farm the index that one of its VIPs is installed with, unless a VIP that is not the farm's is
// installed with it too: that one would meet the farm's table until its own entry is written.
func (in *inputs) placeFarms(have tables) map[string]uint32 {
	index := map[string]uint32{}
	farmOf := map[vipKey]string{}
	for _, v := range in.cfg.VIPs {
		farmOf[v.key()] = v.Farm
	}
	installed := have.allVIPs()
	used, old := map[uint32]bool{}, map[uint32]string{} // old: the farm that an installed table now belongs to
	for key, e := range installed {
		if farm, ok := old[e.farm]; ok && farm != farmOf[key] {
			old[e.farm] = "" // no farm's alone
		} else {
			old[e.farm] = farmOf[key]
		}
	}
	for _, v := range in.cfg.VIPs {
		e, ok := installed[v.key()]
		if _, placed := index[v.Farm]; ok && !placed && old[e.farm] == v.Farm {
			index[v.Farm] = e.farm
			used[e.farm] = true
		}
	}
	for _, f := range in.cfg.Farms {
		if _, ok := index[f.Name]; !ok {
			index[f.Name] = freeIndex(0, bpf.MaxFarms, used, old)
			used[index[f.Name]] = true
		}
	}
	return index
}

// placeVIPs puts the VIPs and their addresses into want.
func (in *inputs) placeVIPs(have, want tables, farmIndex map[string]uint32, inService map[netip.Addr]bool, now time.Time) {
	installed := have.allVIPs()
	counter := map[vipKey]uint32{}
	used, old := map[uint32]bool{}, map[uint32]bool{}
	for _, e := range installed {
		old[e.index] = true
	}
	for _, v := range in.cfg.VIPs {
		if e, ok := installed[v.key()]; ok {
			counter[v.key()] = e.index
			used[e.index] = true
		}
	}
	ranges := map[netip.Addr][]rangeEntry{}
	for _, v := range in.cfg.VIPs {
		key := v.key()
		i, ok := counter[key]
		if !ok {
			i = freeIndex(0, bpf.MaxVIPs, used, old)
			used[i] = true
		}
		e := vipEntry{farm: farmIndex[v.Farm], index: i, sourceBits: uint8(v.sourcePrefix()),
			secondChance: in.farms[v.Farm].rules.secondChance, followAll: in.states[v.Farm].follows(now)}
		if key.ports.single() {
			want.vips[key] = e
		} else {
			ranges[v.Address] = append(ranges[v.Address], rangeEntry{key, e})
		}
		want.addresses[v.Address] = addressEntry{}
	}
	for addr := range want.addresses {
		list := ranges[addr]
		slices.SortFunc(list, func(a, b rangeEntry) int { return a.key.compare(b.key) })
		want.addresses[addr] = addressEntry{inService: inService[addr], ranges: list}
	}
}

// freeIndex gives the lowest index that is in neither map: one that is still installed for something else may meet a
// packet until that is removed. Only when there is no such index is one of those reused. Validate has seen to it that
// there are enough.
func freeIndex[U, O any](first, limit uint32, used map[uint32]U, old map[uint32]O) uint32 {
	reusable := limit
	for i := first; i < limit; i++ {
		if _, ok := used[i]; ok {
			continue
		}
		if _, ok := old[i]; !ok {
			return i
		}
		reusable = min(reusable, i)
	}
	if reusable == limit {
		panic("lb: more objects than the maps hold in a validated config")
	}
	return reusable
}
