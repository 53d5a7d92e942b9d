package lb

import (
	"net/netip"
	"time"
)

// desired computes the content of the maps. What decides where a flow goes is a function of the config and the states
// alone.
func (in *inputs) desired(have tables, now time.Time) tables {
	want := newTables()
	realIndex := in.placeReals(have, want)
	farmIndex := in.placeFarms(have)
	for i := range in.cfg.Farms {
		name := in.cfg.Farms[i].Name
		var candidates []candidate
		for addr, rec := range in.states[name] {
			if rec.primary() == 0 && rec.Held == 0 {
				continue
			}
			if index, ok := realIndex[realKey{addr, rec.kind()}]; ok {
				candidates = append(candidates, candidate{addr: addr, primary: rec.primary(), secondary: rec.Held, index: uint16(index)})
			}
		}
		want.slots[farmIndex[name]] = in.farms[name].table.build(candidates)
	}
	prefixes, _ := in.announce()
	inService := map[netip.Addr]bool{}
	for _, p := range prefixes {
		inService[p.Addr()] = true
	}
	in.placeVIPs(have, want, farmIndex, inService, now)
	return want
}

// desiredReals is what can be installed before anything is known of the reals' health: their entries, which nothing
// leads to yet but their own probes. It gives their indexes too.
func (in *inputs) desiredReals(have tables) (tables, map[realKey]uint32) {
	want := have.clone()
	index := in.placeReals(have, want)
	return want, index
}
