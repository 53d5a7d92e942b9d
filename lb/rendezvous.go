package lb

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"anycastle/bpf"
)

// none is the index of no real, in slots and in the reals map.
const none = 0

// candidate is a real that takes part in a slot table.
type candidate struct {
	addr   netip.Addr
	weight int
	index  uint32
}

// slotTable fills a table by weighted rendezvous hashing: slot s goes to the real with the highest -weight/ln(u), u
// being a hash of (s, address) in (0,1). A real gets slots in proportion to its weight, and one that comes or goes
// moves no slot between the others. The result does not depend on the order of the reals or on their indexes. Without
// candidates every slot holds none.
//
// Among reals of one weight the highest u has the highest score, so a logarithm is taken only once per weight. Scores
// of different weights are floating-point numbers; machines of different architecture may disagree about the last bit,
// which decides a slot only if two scores agree in all bits but that one.
func slotTable(reals []candidate) []uint32 {
	reals = slices.SortedFunc(slices.Values(reals), func(a, b candidate) int {
		if a.weight != b.weight {
			return a.weight - b.weight
		}
		return a.addr.Compare(b.addr)
	})
	seeds := make([]uint64, len(reals))
	for i, r := range reals {
		a := r.addr.As16()
		seeds[i] = mix(binary.BigEndian.Uint64(a[:8])) ^ mix(^binary.BigEndian.Uint64(a[8:]))
	}
	table := make([]uint32, bpf.Slots)
	for slot := range table {
		table[slot] = winner(reals, seeds, mix(uint64(slot)+1))
	}
	return table
}

// winner takes the reals sorted by weight.
func winner(reals []candidate, seeds []uint64, slot uint64) uint32 {
	won, best := uint32(none), math.Inf(-1)
	for i := 0; i < len(reals); {
		weight, top, high := reals[i].weight, i, uint64(0)
		for ; i < len(reals) && reals[i].weight == weight; i++ {
			if h := mix(seeds[i] ^ slot); h > high {
				top, high = i, h
			}
		}
		if s := score(high, weight); s > best {
			won, best = reals[top].index, s
		}
	}
	return won
}

func score(hash uint64, weight int) float64 {
	u := (float64(hash>>12) + 0.5) / (1 << 52) // exact, and neither 0 nor 1
	return -float64(weight) / math.Log(u)
}

// mix is the finalizer of SplitMix64: a bijection in which every input bit changes half of the output bits.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
