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

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// candidates makes n of them with the weights, over and over, on both sides.
func candidates(n int, weights ...int) []candidate {
	list := make([]candidate, n)
	for i := range list {
		w := uint32(weights[i%len(weights)]) * weightOne
		list[i] = candidate{addr: testAddr(i), primary: w, secondary: w, index: uint16(i + 1)}
	}
	return list
}

func testAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 51, byte(100 + i/250), byte(i%250 + 1)})
}

// slotTable builds a table from nothing.
func slotTable(of []candidate) []slotPair { return (&tableBuilder{logs: newLogTable()}).build(of) }

func primaries(slots []slotPair) []uint16 {
	list := make([]uint16, len(slots))
	for i, s := range slots {
		list[i] = s.primary
	}
	return list
}

func held(slots []slotPair) map[uint16]int {
	n := map[uint16]int{}
	for _, s := range slots {
		n[s.primary]++
	}
	return n
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
	for slot, got := range slotTable(other) {
		if got.primary != want[slot].primary+100 || got.secondary != want[slot].secondary+100 {
			t.Fatalf("slot %d holds %v, want the same reals as %v", slot, got, want[slot])
		}
	}
}

// TestTableIsAsPublished holds the table still across versions: LBs of a site may run two of them.
func TestTableIsAsPublished(t *testing.T) {
	got := primaries(slotTable(candidates(5, 1, 3)))[:16]
	want := []uint16{4, 4, 4, 5, 4, 2, 4, 4, 2, 2, 2, 1, 4, 4, 4, 1}
	if !slices.Equal(want, got) {
		t.Errorf("first slots %v, want %v", got, want)
	}
	reals := make([]weighed, 100)
	for i := range reals {
		reals[i] = weighed{testAddr(i), 1 + i%2}
	}
	weights := weigh(newLogTable(), reals)[:8]
	if want := []uint32{65094, 131072, 65536, 130336, 68565, 129608, 62819, 130044}; !slices.Equal(want, weights) {
		t.Errorf("first weights %v, want %v", weights, want)
	}
}

func TestOnlySlotsThatMustMoveDo(t *testing.T) {
	all := candidates(10, 1, 2)
	before := slotTable(all)
	const gone = 4
	after := slotTable(slices.Delete(slices.Clone(all), gone, gone+1))
	for slot := range before {
		if lost := before[slot].primary == all[gone].index; !lost && after[slot] != before[slot] {
			t.Fatalf("slot %d moved from %v to %v, though neither left", slot, before[slot], after[slot])
		} else if lost && after[slot].primary == before[slot].primary {
			t.Fatalf("slot %d stayed with the real that left", slot)
		}
	}
}

// TestWeightMovesItsShare changes one weight: slots move to or from that real alone, and as many as its share changes by,
// within what chance makes of that number.
func TestWeightMovesItsShare(t *testing.T) {
	for _, n := range []int{2, 40} {
		for _, to := range []float64{0.1, 0.9, 1.1, 10} {
			t.Run(fmt.Sprintf("of %d times %v", n, to), func(t *testing.T) {
				all := candidates(n, 1, 2)
				const changed = 1
				before := slotTable(all)
				after := slices.Clone(all)
				after[changed].primary = uint32(float64(all[changed].primary) * to)
				moved := 0
				for slot, now := range slotTable(after) {
					was := before[slot].primary
					if now.secondary != before[slot].secondary {
						t.Fatalf("slot %d: secondary moved from %d to %d", slot, before[slot].secondary, now.secondary)
					}
					if now.primary == was {
						continue
					}
					moved++
					if grew := to > 1; grew && now.primary != all[changed].index || !grew && was != all[changed].index {
						t.Fatalf("slot %d moved from %d to %d when the weight of %d became %v of what it was", slot, was, now.primary, all[changed].index, to)
					}
				}
				want := math.Abs(share(after, changed)-share(all, changed)) * bpf.Slots
				if bound := 4*math.Sqrt(want) + 4; math.Abs(float64(moved)-want) > bound {
					t.Errorf("%d slots moved, want %.0f within %.0f", moved, want, bound)
				}
			})
		}
	}
}

func share(of []candidate, i int) float64 {
	total := 0.0
	for _, c := range of {
		total += float64(c.primary)
	}
	return float64(of[i].primary) / total
}

func TestEmptySides(t *testing.T) {
	for slot, s := range slotTable(nil) {
		if s != (slotPair{}) {
			t.Fatalf("slot %d holds %v", slot, s)
		}
	}
	reals := candidates(3, 1)
	whole := slotTable(reals)
	onlyNew, onlyOld := slices.Clone(reals), slices.Clone(reals)
	for i := range reals {
		onlyNew[i].secondary, onlyOld[i].primary = 0, 0
	}
	if !slices.Equal(slotTable(onlyNew), whole) {
		t.Error("without a real that has established flows, slots are in transition")
	}
	for slot, s := range slotTable(onlyOld) {
		if s != (slotPair{none, whole[slot].secondary}) {
			t.Fatalf("slot %d holds %v with every real draining", slot, s)
		}
	}
}

// TestIncrementalIsTheFull changes a farm at random, as states do, and compares what a builder makes of its last table
// with one that is built from nothing.
func TestIncrementalIsTheFull(t *testing.T) {
	for _, n := range []int{1, 2, 3, 12, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, uint64(n)))
			builder := &tableBuilder{logs: newLogTable()}
			all := candidates(n, 1, 1, 1, 5)
			for step := range max(8, 30-n) {
				for range 1 + rng.IntN(2) {
					mutate(rng, all)
				}
				if rng.IntN(8) == 0 { // a transition ends
					for i := range all {
						all[i].secondary = all[i].primary
					}
				}
				last := builder.slots
				kept := slices.Clone(last)
				got, want := builder.build(all), slotTable(all)
				if !slices.Equal(got, want) {
					t.Fatalf("step %d: the incremental table is not the full one", step)
				}
				if !slices.Equal(last, kept) {
					t.Fatalf("step %d: the table before was changed", step)
				}
			}
		})
	}
}

// mutate changes one real: its weights, or its index, which it may swap with another's.
func mutate(rng *rand.Rand, all []candidate) {
	c := &all[rng.IntN(len(all))]
	weight := uint32(1+rng.IntN(4)) * weightOne
	switch rng.IntN(7) {
	case 0:
		c.primary, c.secondary = 0, 0
	case 1:
		c.primary, c.secondary = weight, weight
	case 2:
		c.primary = weight
	case 3:
		c.primary = 0
	case 4:
		c.secondary = 0
	case 5:
		o := &all[rng.IntN(len(all))]
		c.index, o.index = o.index, c.index
	case 6:
		index := uint16(1 + rng.IntN(bpf.MaxReals-1))
		if !slices.ContainsFunc(all, func(c candidate) bool { return c.index == index }) {
			c.index = index
		}
	}
}

// TestUnchangedTableIsTheSameSlice spares a comparison of all slots.
func TestUnchangedTableIsTheSameSlice(t *testing.T) {
	builder := &tableBuilder{logs: newLogTable()}
	reals := candidates(5, 1)
	a := builder.build(reals)
	slices.Reverse(reals)
	if b := builder.build(reals); &a[0] != &b[0] {
		t.Error("the same candidates give another slice")
	}
}

func BenchmarkSlotTable(b *testing.B) {
	for _, bc := range []struct {
		name    string
		n       int
		weights []int
	}{{"2 reals", 2, []int{1}}, {"100 reals", 100, []int{1}}, {"100 reals of 4 weights", 100, []int{1, 2, 3, 4}}} {
		reals := candidates(bc.n, bc.weights...)
		b.Run(bc.name, func(b *testing.B) {
			builder := &tableBuilder{logs: newLogTable()}
			for b.Loop() {
				*builder = tableBuilder{logs: builder.logs}
				builder.build(reals)
			}
		})
		b.Run(bc.name+", one leaves and comes", func(b *testing.B) {
			builder := &tableBuilder{logs: newLogTable()}
			builder.build(reals)
			of := slices.Clone(reals)
			for b.Loop() { // drain, suspend, join, in service: 4 tables
				for _, w := range [][2]uint32{{0, weightOne}, {0, 0}, {weightOne, 0}, {weightOne, weightOne}} {
					of[0].primary, of[0].secondary = w[0], w[1]
					builder.build(of)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4, "ns/table")
		})
	}
}

func BenchmarkWeigh(b *testing.B) {
	reals := make([]weighed, 100)
	for i := range reals {
		reals[i] = weighed{testAddr(i), 1 + i%4}
	}
	logs := newLogTable()
	for b.Loop() {
		weigh(logs, reals)
	}
}
