package lb

import (
	"fmt"
	"net/netip"
	"reflect"

	"anycastle/bpf"
)

// changeOf says that a value changes; empty: it does not.
func changeOf(what string, was, is any) []string {
	if was == is {
		return nil
	}
	return []string{fmt.Sprintf("%s %v to %v", what, was, is)}
}

// farmChanges says what the configs say of a farm that differs, but for its reals and VIPs.
func (c *comparison) farmChanges(name string) []string {
	farmName := func(f *Farm) string { return f.Name }
	was, is := find(c.old.Farms, name, farmName), find(c.next.Farms, name, farmName)
	switch {
	case was == nil:
		return []string{"added"}
	case is == nil:
		return []string{"removed"}
	}
	list := []string{}
	list = append(list, changeOf("forward", was.Forward, is.Forward)...)
	list = append(list, changeOf("transition method", was.Transition.Method, is.Transition.Method)...)
	list = append(list, changeOf("transition time", was.Transition.Time, is.Transition.Time)...)
	list = append(list, changeOf("weights", was.Weights, is.Weights)...)
	list = append(list, changeOf("agent port", agentPort(was), agentPort(is))...)
	list = append(list, changeOf("capacity", was.Capacity, is.Capacity)...)
	if !reflect.DeepEqual(was.Probes, is.Probes) {
		list = append(list, "other probes")
	}
	return list
}

func agentPort(f *Farm) string {
	if f.Agent == nil {
		return "none"
	}
	return fmt.Sprint(f.Agent.Port)
}

// realChanges says what becomes of a real of a farm; either is nil where it is not in the config.
func realChanges(c *comparison, farm string, was, is *Real) []string {
	switch {
	case was == nil && is == nil:
		return []string{}
	case was == nil:
		return []string{fmt.Sprintf("added, weight %d", is.Weight)}
	case is == nil:
		return []string{fmt.Sprintf("removed, weight %d", was.Weight)}
	}
	list := []string{}
	list = append(list, changeOf("name", was.Name, is.Name)...)
	list = append(list, changeOf("weight", was.Weight, is.Weight)...)
	before, after := c.old.farm(farm), c.next.farm(farm)
	if before.Forward == after.Forward { // else it is said of the farm
		list = append(list, changeOf("forward", before.forward(was), after.forward(is))...)
	}
	return list
}

// vips tells of the VIPs that change, or whose flows would break.
func (c *comparison) vips() []VIPDiff {
	list := []VIPDiff{}
	was, is := c.old.vipsByKey(), c.next.vipsByKey()
	for i := range c.old.VIPs {
		v := &c.old.VIPs[i]
		d := VIPDiff{Name: v.Name, Address: v.Address, Protocol: v.Protocol, Port: v.Port, Changes: c.vipChanges(v, is[v.key()]),
			Breaks: c.breaks(v.key())}
		if next := is[v.key()]; next != nil {
			d.Withheld = c.withheld(next)
		}
		if len(d.Changes) > 0 || d.Breaks > 0 || d.Withheld != "" {
			list = append(list, d)
		}
	}
	for i := range c.next.VIPs {
		v := &c.next.VIPs[i]
		if was[v.key()] == nil {
			list = append(list, VIPDiff{Name: v.Name, Address: v.Address, Protocol: v.Protocol, Port: v.Port, Changes: c.vipChanges(nil, v)})
		}
	}
	return list
}

func (c *comparison) vipChanges(was, is *VIP) []string {
	list := []string{}
	switch {
	case was == nil:
		list = append(list, "added")
	case is == nil:
		return []string{"removed"}
	default:
		list = append(list, changeOf("name", was.Name, is.Name)...)
		list = append(list, changeOf("farm", was.Farm, is.Farm)...)
		list = append(list, changeOf("hash", was.hash(), is.hash())...)
		list = append(list, changeOf("min_reals", was.MinReals, is.MinReals)...)
		list = append(list, changeOf("min_share", was.MinShare, is.MinShare)...)
		list = append(list, changeOf("full_reals", was.FullReals, is.FullReals)...)
		list = append(list, changeOf("full_share", was.FullShare, is.FullShare)...)
		if c.old.HashKey != c.next.HashKey {
			list = append(list, "another hash_key")
		}
	}
	return list
}

// withheld says why a VIP's address would not be announced any more, or not yet; empty: it would, or is not announced now.
func (c *comparison) withheld(v *VIP) string {
	if c.now.nobody[v.Address] != "" {
		return ""
	}
	if why := c.soon().nobody[v.Address]; why != "" {
		return why
	}
	if why := c.then[0].nobody[v.Address]; why != "" {
		return "until new reals pass their probes: " + why
	}
	return ""
}

// hash says by what flows find their slots.
func (v *VIP) hash() string {
	if n := v.sourcePrefix(); n > 0 {
		return fmt.Sprintf("%s/%d", hashSource, n)
	}
	return hashFlow
}

// breaks is the share of a VIP's established flows whose packets would at once go to a real that does not know them. Flows
// that take another slot by another hash are as likely to get one as another. What is stored is left out of account.
func (c *comparison) breaks(key vipKey) float64 {
	old, ok := c.now.allVIPs()[key]
	if !ok {
		return 0
	}
	before := c.now.slots[old.farm]
	broken := make([]bool, len(before))
	most := 0.0
	for _, p := range c.then {
		if !p.soon {
			break
		}
		e, ok := p.takes(key)
		switch {
		case !ok:
			return 1
		case e.sourceBits != old.sourceBits || p.key != c.now.key:
			most = max(most, p.scattered(c.now, before, e, key.proto))
		default:
			p.misled(c.now, before, e, key.proto, broken)
		}
	}
	n := 0
	for _, b := range broken {
		if b {
			n++
		}
	}
	return max(most, float64(n)/bpf.Slots)
}

// takes gives the VIP that takes the packets of a VIP, which may be a wider one if that is gone.
func (p *phase) takes(key vipKey) (vipEntry, bool) {
	if e, ok := p.allVIPs()[key]; ok || !key.ports.single() {
		return e, ok
	}
	ch, ok := p.find(flow{vip: netip.AddrPortFrom(key.addr, key.ports.Low), client: netip.AddrPortFrom(key.addr, 0), proto: key.proto})
	return ch.entry, ok
}

// holder is where the established flows of a slot are, all or the older ones.
func (p *phase) holder(s slotPair) uint16 {
	if s.secondary != none {
		return s.secondary
	}
	return s.primary
}

// misled marks the slots whose flows would go astray in this phase. It looks at pairs of slots, which are few.
func (p *phase) misled(now *phase, before []slotPair, e vipEntry, proto uint8, broken []bool) {
	after := p.slots[e.farm]
	seen := map[[2]slotPair]bool{}
	for i, was := range before {
		k := [2]slotPair{was, after[i]}
		bad, ok := seen[k]
		if !ok {
			at := now.addr(now.holder(was))
			bad = at.IsValid() && p.goesTo(choice{entry: e, pair: after[i]}, proto, at, none) != at
			seen[k] = bad
		}
		broken[i] = broken[i] || bad
	}
}

// scattered is the share of flows that would go astray if each took a slot by chance.
func (p *phase) scattered(now *phase, before []slotPair, e vipEntry, proto uint8) float64 {
	pairs := map[slotPair]int{}
	for _, s := range p.slots[e.farm] {
		pairs[s]++
	}
	holders := map[uint16]int{}
	for _, s := range before {
		holders[now.holder(s)]++
	}
	stay, all := 0.0, 0.0
	for index, n := range holders {
		at := now.addr(index)
		if !at.IsValid() {
			continue
		}
		all += float64(n)
		for pair, m := range pairs {
			if p.goesTo(choice{entry: e, pair: pair}, proto, at, none) == at {
				stay += float64(n) * float64(m) / bpf.Slots
			}
		}
	}
	if all == 0 {
		return 0
	}
	return 1 - stay/all
}
