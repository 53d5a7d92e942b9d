package lb

import (
	"math"
	"net/netip"
	"slices"
	"testing"

	"anycastle/bpf"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// reals makes n candidates with the weights, over and over.
func candidates(n int, weights ...int) []candidate {
	list := make([]candidate, n)
	for i := range list {
		list[i] = candidate{
			addr:   netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}),
			weight: weights[i%len(weights)],
			index:  uint32(i + 1),
		}
	}
	return list
}

func TestTableIgnoresOrderAndIndexes(t *testing.T) {
	reals := candidates(9, 1, 2, 5)
	want := slotTable(reals)
	other := slices.Clone(reals)
	slices.Reverse(other)
	if !slices.Equal(want, slotTable(other)) {
		t.Error("another order of the reals gives another table")
	}
	for i := range other {
		other[i].index += 100
	}
	for slot, index := range slotTable(other) {
		if index != want[slot]+100 {
			t.Fatalf("slot %d holds index %d, want the same real as %d", slot, index, want[slot])
		}
	}
}

// TestTableIsAsPublished holds the table still across versions: LBs of a site may run two of them.
func TestTableIsAsPublished(t *testing.T) {
	got := slotTable(candidates(5, 1, 3))[:16]
	want := []uint32{1, 2, 1, 3, 4, 2, 4, 3, 2, 1, 4, 3, 4, 5, 2, 4}
	if !slices.Equal(want, got) {
		t.Errorf("first slots %v, want %v", got, want)
	}
}

func TestOnlySlotsThatMustMoveDo(t *testing.T) {
	all := candidates(10, 1, 2)
	before := slotTable(all)
	const gone = 4
	after := slotTable(slices.Delete(slices.Clone(all), gone, gone+1))
	for slot := range before {
		if lost := before[slot] == all[gone].index; !lost && after[slot] != before[slot] {
			t.Fatalf("slot %d moved from %d to %d, though neither left", slot, before[slot], after[slot])
		} else if lost && after[slot] == before[slot] {
			t.Fatalf("slot %d stayed with the real that left", slot)
		}
	}
	heavier := slices.Clone(all)
	heavier[gone].weight++
	for slot, index := range slotTable(heavier) {
		if index != before[slot] && index != all[gone].index {
			t.Fatalf("slot %d moved from %d to %d when the weight of %d grew", slot, before[slot], index, all[gone].index)
		}
	}
}

func TestWeightsAreShares(t *testing.T) {
	reals := candidates(8, 1, 2, 10)
	total := 0
	for _, r := range reals {
		total += r.weight
	}
	n := map[uint32]int{}
	for _, index := range slotTable(reals) {
		n[index]++
	}
	for _, r := range reals {
		p := float64(r.weight) / float64(total)
		mean, sigma := p*bpf.Slots, math.Sqrt(p*(1-p)*bpf.Slots)
		if d := math.Abs(float64(n[r.index]) - mean); d > 5*sigma {
			t.Errorf("real %d with weight %d has %d slots, want %.0f within %.0f", r.index, r.weight, n[r.index], mean, 5*sigma)
		}
	}
}

func TestEmptyTable(t *testing.T) {
	for slot, index := range slotTable(nil) {
		if index != none {
			t.Fatalf("slot %d holds %d", slot, index)
		}
	}
}

func BenchmarkSlotTable(b *testing.B) {
	for _, bc := range []struct {
		name    string
		n       int
		weights []int
	}{{"2 reals", 2, []int{1}}, {"100 reals", 100, []int{1}}, {"100 reals of 4 weights", 100, []int{1, 2, 3, 4}}} {
		b.Run(bc.name, func(b *testing.B) {
			reals := candidates(bc.n, bc.weights...)
			for b.Loop() {
				slotTable(reals)
			}
		})
	}
}
