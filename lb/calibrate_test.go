package lb

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"anycastle/bpf"
)

// randomReals makes reals in one of the networks that documentation has, IPv4 or IPv6.
func randomReals(rng *rand.Rand, n int, weight func(i int) int) []weighed {
	reals := make([]weighed, n)
	seen := map[netip.Addr]bool{}
	for i := range reals {
		a := netip.AddrFrom4([4]byte{198, 51, 100, byte(rng.Uint32())})
		if n > 50 {
			a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(rng.Uint32()), 15: byte(rng.Uint32())})
		}
		for seen[a] {
			a = a.Next()
		}
		seen[a] = true
		reals[i] = weighed{a, weight(i)}
	}
	return reals
}

func inService(reals []weighed, weights []uint32) []candidate {
	list := make([]candidate, len(reals))
	for i, r := range reals {
		list[i] = candidate{addr: r.addr, primary: weights[i], secondary: weights[i], index: uint16(i + 1)}
	}
	return list
}

// TestSharesAreTheWeights holds the two figures that are published: the largest share is at most 1.1 of the mean at 100
// equal reals, and each share from a 256th up is what its weight says within 3 %.
func TestSharesAreTheWeights(t *testing.T) {
	logs := newLogTable()
	for _, tc := range []struct {
		name   string
		n      int
		weight func(i int) int
	}{
		{"2 equal", 2, func(int) int { return 1 }},
		{"10 of 1 to 10", 10, func(i int) int { return i + 1 }},
		{"40 equal", 40, func(int) int { return 1 }},
		{"100 equal", 100, func(int) int { return 1 }},
		{"100 of 1 to 4", 100, func(i int) int { return 1 + i%4 }},
		{"3 of 1, 10, 1000", 3, func(i int) int { return []int{1, 10, 1000}[i] }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, uint64(tc.n)))
			reals := randomReals(rng, tc.n, tc.weight)
			n := held(slotTable(inService(reals, weigh(logs, reals))))
			total := 0
			for _, r := range reals {
				total += r.weight
			}
			for i, r := range reals {
				due := float64(r.weight) / float64(total) * bpf.Slots
				off := math.Abs(float64(n[uint16(i+1)])/due - 1)
				if due >= smallestMended && off > 0.03 {
					t.Errorf("%v with weight %d of %d has %d slots, want %.0f: %.1f %% off", r.addr, r.weight, total, n[uint16(i+1)], due, 100*off)
				}
			}
		})
	}
}

// TestEditMovesFew adds a real to a farm and takes it out: apart from its own slots few move.
func TestEditMovesFew(t *testing.T) {
	logs := newLogTable()
	for _, n := range []int{2, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, uint64(n)))
			reals := randomReals(rng, n+1, func(int) int { return 1 })
			with := slotTable(inService(reals, weigh(logs, reals)))
			without := slotTable(inService(reals[:n], weigh(logs, reals[:n])))
			others := 0
			for slot := range with {
				if with[slot] != without[slot] && with[slot].primary != uint16(n+1) {
					others++
				}
			}
			if others > bpf.Slots/250 {
				t.Errorf("%d slots of %d moved between reals that stayed, want at most 0.4 %%", others, bpf.Slots)
			}
		})
	}
}

func TestWeighIgnoresOrder(t *testing.T) {
	logs := newLogTable()
	reals := randomReals(rand.New(rand.NewPCG(9, 9)), 60, func(i int) int { return 1 + i%3 })
	want := weigh(logs, reals)
	slices.Reverse(reals)
	got := weigh(logs, reals)
	slices.Reverse(got)
	if !slices.Equal(want, got) {
		t.Error("another order of the reals gives them other weights")
	}
}
