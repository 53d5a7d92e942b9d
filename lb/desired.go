package lb

import (
	"fmt"
	"net/netip"
	"slices"

	"anycastle/internal/probe"
)

// realID names a real of the config.
type realID struct{ farm, name string }

// inputs is all that decides what is desired.
type inputs struct {
	cfg    *Config
	probes map[targetID]probe.State
	hops   map[netip.Addr]Hop

	logs     *logTable
	builders map[string]*tableBuilder // by farm
	weights  map[string][]uint32      // by farm: what weigh gives for its reals
}

func newInputs(cfg *Config) inputs {
	in := inputs{cfg: cfg, probes: map[targetID]probe.State{}, hops: map[netip.Addr]Hop{},
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
func (in *inputs) active(f *Farm, r *Real) (bool, string) {
	for _, t := range in.cfg.targetsOf(f, r) {
		switch in.probes[t.id] {
		case probe.Unknown:
			return false, "first probe not finished"
		case probe.Failing:
			return false, "probe fails"
		}
	}
	if hop := in.hops[r.Address]; !hop.Resolved() {
		return false, "next hop " + hop.String()
	}
	return true, ""
}

// complete says whether every real has been probed and its next hop looked for. Before that, nothing is known that is
// worth installing: what an earlier process installed is better.
func (in *inputs) complete() bool {
	for i := range in.cfg.Farms {
		f := &in.cfg.Farms[i]
		for j := range f.Reals {
			if _, looked := in.hops[f.Reals[j].Address]; !looked {
				return false
			}
			for _, t := range in.cfg.targetsOf(f, &f.Reals[j]) {
				if in.probes[t.id] == probe.Unknown {
					return false
				}
			}
		}
	}
	return true
}

func (in *inputs) activeReals(farm string) int {
	n := 0
	f := in.cfg.farm(farm)
	for i := range f.Reals {
		if ok, _ := in.active(f, &f.Reals[i]); ok {
			n++
		}
	}
	return n
}

// announce gives the prefixes, /32 or /128, that are to be announced, sorted, and for every other address of a VIP the
// reason why not. An address is announced only if every VIP on it has enough reals: routes know no ports.
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
// alone.
func (in *inputs) desired(have tables) tables {
	want := newTables()
	realIndex := in.placeReals(have, want)
	farmIndex := in.placeFarms(have)
	for i := range in.cfg.Farms {
		f := &in.cfg.Farms[i]
		var candidates []candidate
		for j := range f.Reals {
			r := &f.Reals[j]
			if ok, _ := in.active(f, r); ok {
				weight := in.weights[f.Name][j]
				candidates = append(candidates,
					candidate{addr: r.Address, primary: weight, secondary: weight, index: uint16(realIndex[f.realKey(r)])})
			}
		}
		want.slots[farmIndex[f.Name]] = in.builders[f.Name].build(candidates)
	}
	prefixes, _ := in.announce()
	inService := map[netip.Addr]bool{}
	for _, p := range prefixes {
		inService[p.Addr()] = true
	}
	in.placeVIPs(have, want, farmIndex, inService)
	return want
}

// desiredReals is what can be installed before anything is known of the reals' health: their entries, which nothing
// leads to yet but their own probes.
func (in *inputs) desiredReals(have tables) tables {
	want := have.clone()
	in.placeReals(have, want)
	return want
}
