package lb

import (
	"math"
	"net/netip"
	"slices"

	"anycastle/bpf"
)

// none is the index of no real, in slots and in the reals map.
const none = 0

// candidate is a real that takes part in a slot table. Its weights are those that weigh gives, or parts of them.
type candidate struct {
	addr      netip.Addr
	primary   uint32 // for new flows; 0: it takes none
	secondary uint32 // for established flows; 0: it has none
	index     uint16
}

// slotPair is one slot: indexes of the real for new flows and of that for established ones.
type slotPair struct{ primary, secondary uint16 }

// moving says whether new flows and established ones are at different reals.
func (p slotPair) moving() bool { return p.primary != p.secondary }

// tableBuilder computes the slot table of one farm by weighted rendezvous hashing: on each side, a slot goes to the
// real with the least luck over weight, luck being a hash of slot and address. A real gets slots in proportion to its
// weight; one that comes, goes or changes its weight moves slots to or from itself and no slot between others. The
// table is a function of addresses and weights alone: neither the order of the reals nor what the table was before
// matter. It is integer arithmetic throughout, so that all LBs compute the same.
//
// What it has computed it keeps, so that a change of few reals costs a look at each slot and not at each real for each
// slot.
type tableBuilder struct {
	logs               *logTable
	primary, secondary side
	slots              []slotPair
}

// side is what holds slots on one side, and the contenders, sorted by address, that it was computed from.
type side struct {
	of      []contender
	winners []uint16
}

// build gives the table of the candidates. A side without any weight holds none; but if that is the secondary side
// alone, nobody has established flows and it is as the primary. The caller must not change the table; it stays as it is
// when the next one is built.
func (b *tableBuilder) build(of []candidate) []slotPair {
	primary := contenders(of, func(c candidate) uint32 { return c.primary })
	secondary := contenders(of, func(c candidate) uint32 { return c.secondary })
	if len(secondary) == 0 {
		secondary = primary
	}
	if b.slots != nil && same(b.primary.of, primary) && same(b.secondary.of, secondary) {
		return b.slots
	}
	// most changes have a side become what the other is, or was
	known := []side{b.primary, b.secondary}
	b.primary = b.side(primary, known)
	b.secondary = b.side(secondary, append(known, b.primary))
	b.slots = make([]slotPair, bpf.Slots)
	for slot := range b.slots {
		b.slots[slot] = slotPair{b.primary.winners[slot], b.secondary.winners[slot]}
	}
	return b.slots
}

// side computes a side from the one of the known that is nearest to it.
func (b *tableBuilder) side(of []contender, known []side) side {
	best, cost := side{}, len(of)*bpf.Slots
	for _, k := range known {
		if k.winners == nil {
			continue
		}
		if d := difference(k, of); d.cost < cost {
			best, cost = k, d.cost
		}
	}
	if best.winners == nil {
		return side{of, b.all(of)}
	}
	d := difference(best, of)
	if len(d.gained) == 0 && len(d.lost) == 0 {
		return side{of, best.winners}
	}
	return side{of, b.redo(best.winners, of, d)}
}

// change is what makes one side of another.
type change struct {
	gained []*contender    // have more weight than before
	lost   map[uint16]bool // indexes that stood for a real that has less weight than before
	cost   int             // in scores to compute
}

func difference(from side, to []contender) change {
	d := change{lost: map[uint16]bool{}}
	i := 0
	for j := range to {
		for ; i < len(from.of) && from.of[i].addr.Less(to[j].addr); i++ {
			d.lost[from.of[i].index] = true
		}
		if i == len(from.of) || from.of[i].addr != to[j].addr {
			d.gained = append(d.gained, &to[j])
			continue
		}
		old := &from.of[i]
		i++
		if old.index != to[j].index || old.weight > to[j].weight {
			d.lost[old.index] = true
		}
		if old.index != to[j].index || old.weight < to[j].weight {
			d.gained = append(d.gained, &to[j])
		}
	}
	for ; i < len(from.of); i++ {
		d.lost[from.of[i].index] = true
	}
	if len(d.gained) > 0 {
		d.cost = (len(d.gained) + 1) * bpf.Slots
	}
	if len(from.of) > 0 {
		d.cost += len(d.lost) * len(to) * bpf.Slots / len(from.of)
	}
	return d
}

// all computes every slot.
func (b *tableBuilder) all(of []contender) []uint16 {
	winners := make([]uint16, bpf.Slots)
	for slot := range winners {
		winners[slot] = b.winner(of, slot)
	}
	return winners
}

// redo computes the slots whose winner has lost weight, and has those that gained challenge the winners of the others.
// A winner that lost none still beats all that gained none.
func (b *tableBuilder) redo(winners []uint16, of []contender, d change) []uint16 {
	var at [bpf.MaxReals]*contender
	for i := range of {
		at[of[i].index] = &of[i]
	}
	var lost [bpf.MaxReals]bool
	for index := range d.lost {
		lost[index] = true
	}
	if len(winners) > 0 && winners[0] == none {
		lost[none] = true // there was nobody
	}
	winners = slices.Clone(winners)
	for slot, index := range winners {
		switch {
		case lost[index]:
			winners[slot] = b.winner(of, slot)
		case len(d.gained) > 0:
			winners[slot] = b.challenge(at[index], d.gained, slot)
		}
	}
	return winners
}

// winner gives the index of the contender with the least score; of two that are equal, the one with the lower address.
func (b *tableBuilder) winner(of []contender, slot int) uint16 {
	won, best, salt := uint16(none), uint64(math.MaxUint64), salt(slot)
	for i := range of {
		c := &of[i]
		place := c.place(uint16(slot))
		if c.atLeast(place) >= best {
			continue
		}
		if s := c.score(c.luck(b.logs, place, salt)); s < best {
			won, best = c.index, s
		}
	}
	return won
}

func (b *tableBuilder) challenge(holder *contender, challengers []*contender, slot int) uint16 {
	salt := salt(slot)
	best := holder.score(holder.luck(b.logs, holder.place(uint16(slot)), salt))
	for _, c := range challengers {
		place := c.place(uint16(slot))
		if c.atLeast(place) > best {
			continue
		}
		s := c.score(c.luck(b.logs, place, salt))
		if s < best || s == best && c.addr.Less(holder.addr) {
			holder, best = c, s
		}
	}
	return holder.index
}

// contenders gives the candidates that have weight, sorted by address.
func contenders(of []candidate, weight func(candidate) uint32) []contender {
	var list []contender
	for _, c := range of {
		if w := weight(c); w > 0 {
			list = append(list, newContender(c.addr, c.index, w))
		}
	}
	slices.SortFunc(list, func(a, b contender) int { return a.addr.Compare(b.addr) })
	return list
}

func same(a, b []contender) bool {
	return slices.EqualFunc(a, b, func(a, b contender) bool {
		return a.addr == b.addr && a.index == b.index && a.weight == b.weight
	})
}
