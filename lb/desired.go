package lb

import (
	"fmt"
	"net/netip"
	"slices"

	"anycastle/bpf"
	"anycastle/internal/probe"
)

// vipKey is what a packet's destination must be. The zero protocol and port stand for the address as a whole, which
// tells the data path whose packets without ports are.
type vipKey struct {
	addr  netip.Addr
	proto uint8
	port  uint16
}

func (k vipKey) isAddress() bool { return k.proto == 0 }

func (v *VIP) key() vipKey {
	proto := uint8(6)
	if v.Protocol == "udp" {
		proto = 17
	}
	return vipKey{addr: v.Address, proto: proto, port: v.Port}
}

type vipEntry struct {
	farm  uint32
	index uint32 // of its counters
}

type realEntry struct {
	addr netip.Addr
	hop  Hop
}

// tables is the whole content of the data path's maps, wanted or installed.
type tables struct {
	reals map[uint32]realEntry // by real index, never none
	vips  map[vipKey]vipEntry
	slots map[uint32][]slotPair // by farm index; nil if there is a table whose content is not known
}

func newTables() tables {
	return tables{reals: map[uint32]realEntry{}, vips: map[vipKey]vipEntry{}, slots: map[uint32][]slotPair{}}
}

// hops are those of the reals that have one.
func (t tables) hops() map[netip.Addr]Hop {
	hops := map[netip.Addr]Hop{}
	for _, r := range t.reals {
		if r.hop.Resolved() {
			hops[r.addr] = r.hop
		}
	}
	return hops
}

// realID names a real of the config.
type realID struct{ farm, name string }

// inputs is all that decides what is desired.
type inputs struct {
	cfg    *Config
	states map[realID]probe.State
	hops   map[netip.Addr]Hop

	logs     *logTable
	builders map[string]*tableBuilder // by farm
	weights  map[string][]uint32      // by farm: what weigh gives for its reals
}

func newInputs(cfg *Config) inputs {
	in := inputs{cfg: cfg, states: map[realID]probe.State{}, hops: map[netip.Addr]Hop{},
		logs: newLogTable(), builders: map[string]*tableBuilder{}, weights: map[string][]uint32{}}
	for _, f := range cfg.Farms {
		in.builders[f.Name] = &tableBuilder{logs: in.logs}
		reals := make([]weighed, len(f.Reals))
		for i, r := range f.Reals {
			reals[i] = weighed{r.Address, r.Weight}
		}
		in.weights[f.Name] = weigh(in.logs, reals)
	}
	return in
}

// active says whether a real takes flows, and if not, why.
func (in *inputs) active(farm string, r Real) (bool, string) {
	switch in.states[realID{farm, r.Name}] {
	case probe.Unknown:
		return false, "first probe not finished"
	case probe.Failing:
		return false, "probe fails"
	}
	if hop := in.hops[r.Address]; !hop.Resolved() {
		return false, "next hop " + hop.String()
	}
	return true, ""
}

// complete says whether every real has been probed and its next hop looked for. Before that, nothing is known that is
// worth installing: what an earlier process installed is better.
func (in *inputs) complete() bool {
	for _, f := range in.cfg.Farms {
		for _, r := range f.Reals {
			if _, looked := in.hops[r.Address]; !looked || in.states[realID{f.Name, r.Name}] == probe.Unknown {
				return false
			}
		}
	}
	return true
}

func (in *inputs) activeReals(farm string) int {
	n := 0
	for _, r := range in.cfg.farm(farm).Reals {
		if ok, _ := in.active(farm, r); ok {
			n++
		}
	}
	return n
}

// announce gives the /32s that are to be announced, sorted, and for every other address of a VIP the reason why not.
// An address is announced only if every VIP on it has enough reals: routes know no ports.
func (in *inputs) announce() ([]netip.Prefix, map[netip.Addr]string) {
	withheld := map[netip.Addr]string{}
	var prefixes []netip.Prefix
	for _, v := range in.cfg.VIPs {
		if n := in.activeReals(v.Farm); n < v.MinReals && withheld[v.Address] == "" {
			withheld[v.Address] = fmt.Sprintf("vip %s has %d of %d reals that it needs", v.Name, n, v.MinReals)
		}
	}
	for _, v := range in.cfg.VIPs {
		if withheld[v.Address] == "" {
			prefixes = append(prefixes, netip.PrefixFrom(v.Address, v.Address.BitLen()))
		}
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes), withheld
}

// desired computes the content of the maps. What decides where a flow goes is a function of the config and the states
// alone; only indexes, which mean nothing outside this machine, are kept from what is installed, so that nothing that
// stays has to move.
func (in *inputs) desired(have tables) tables {
	want := newTables()
	realIndex := in.placeReals(have, want)
	farmIndex := in.placeFarms(have)
	for _, f := range in.cfg.Farms {
		var candidates []candidate
		for i, r := range f.Reals {
			if ok, _ := in.active(f.Name, r); ok {
				weight := in.weights[f.Name][i]
				candidates = append(candidates,
					candidate{addr: r.Address, primary: weight, secondary: weight, index: uint16(realIndex[r.Address])})
			}
		}
		want.slots[farmIndex[f.Name]] = in.builders[f.Name].build(candidates)
	}
	in.placeVIPs(have, want, farmIndex)
	return want
}

func (in *inputs) placeReals(have, want tables) map[netip.Addr]uint32 {
	old := map[netip.Addr]uint32{}
	for index, r := range have.reals {
		old[r.addr] = index
	}
	index := map[netip.Addr]uint32{}
	var fresh []netip.Addr
	for _, f := range in.cfg.Farms {
		for _, r := range f.Reals {
			if i, ok := old[r.Address]; ok {
				index[r.Address] = i
				want.reals[i] = realEntry{addr: r.Address, hop: in.hops[r.Address].ToInstall()}
			} else {
				fresh = append(fresh, r.Address)
			}
		}
	}
	for _, addr := range fresh {
		if _, ok := index[addr]; ok {
			continue // in two farms
		}
		i := freeIndex(none+1, bpf.MaxReals, want.reals, have.reals)
		index[addr] = i
		want.reals[i] = realEntry{addr: addr, hop: in.hops[addr].ToInstall()}
	}
	return index
}

// placeFarms gives each farm the index that one of its VIPs is installed with, unless a VIP that is not the farm's is
// installed with it too: that one would meet the farm's table until its own entry is written.
func (in *inputs) placeFarms(have tables) map[string]uint32 {
	index := map[string]uint32{}
	farmOf := map[vipKey]string{}
	for _, v := range in.cfg.VIPs {
		farmOf[v.key()] = v.Farm
	}
	used, old := map[uint32]bool{}, map[uint32]string{} // old: the farm that an installed table now belongs to
	for key, e := range have.vips {
		if key.isAddress() {
			continue // and a table without a VIP meets no packet
		}
		if farm, ok := old[e.farm]; ok && farm != farmOf[key] {
			old[e.farm] = "" // no farm's alone
		} else {
			old[e.farm] = farmOf[key]
		}
	}
	for _, v := range in.cfg.VIPs {
		e, ok := have.vips[v.key()]
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

func (in *inputs) placeVIPs(have, want tables, farmIndex map[string]uint32) {
	counters := func(t tables) map[uint32]bool {
		used := map[uint32]bool{}
		for key, e := range t.vips {
			if !key.isAddress() {
				used[e.index] = true
			}
		}
		return used
	}
	for _, v := range in.cfg.VIPs {
		want.vips[vipKey{addr: v.Address}] = vipEntry{}
		if e, ok := have.vips[v.key()]; ok {
			want.vips[v.key()] = vipEntry{farm: farmIndex[v.Farm], index: e.index}
		}
	}
	used, old := counters(want), counters(have)
	for _, v := range in.cfg.VIPs {
		if _, ok := want.vips[v.key()]; !ok {
			i := freeIndex(0, bpf.MaxVIPs, used, old)
			used[i] = true
			want.vips[v.key()] = vipEntry{farm: farmIndex[v.Farm], index: i}
		}
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
