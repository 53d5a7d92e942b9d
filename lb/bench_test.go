package lb

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"anycastle/bpf"
)

// BenchmarkFarm gives the figures that are published of slot tables: the time of one from nothing and of one in which a
// real has changed, and how far shares are from what they should be, the worst of as many farms as there is time for.
func BenchmarkFarm(b *testing.B) {
	equal := func(int) int { return 1 }
	b.Run("table/build/reals=100", func(b *testing.B) {
		reals := randomReals(rand.New(rand.NewPCG(1, 1)), 100, equal)
		logs := newLogTable()
		candidates := inService(reals, weigh(logs, reals))
		for b.Loop() {
			builder := tableBuilder{logs: logs}
			builder.build(candidates)
		}
		b.ReportMetric(milliseconds(b, 1), "ms")
	})
	b.Run("table/weigh/reals=100", func(b *testing.B) { // once for a config, before its first table
		reals := randomReals(rand.New(rand.NewPCG(1, 1)), 100, equal)
		logs := newLogTable()
		for b.Loop() {
			weigh(logs, reals)
		}
		b.ReportMetric(milliseconds(b, 1), "ms")
	})
	b.Run("table/change/reals=100", func(b *testing.B) {
		reals := randomReals(rand.New(rand.NewPCG(1, 1)), 100, equal)
		builder := tableBuilder{logs: newLogTable()}
		in := inService(reals, weigh(builder.logs, reals))
		builder.build(in)
		out := slices.Clone(in)
		out[0].primary, out[0].secondary = 0, 0
		for b.Loop() { // it fails and comes back
			builder.build(out)
			builder.build(in)
		}
		b.ReportMetric(milliseconds(b, 2), "ms")
	})
	for _, bc := range []struct {
		name   string
		n      int
		weight func(i int) int
	}{
		{"table/shares/reals=100", 100, equal},
		{"table/shares/reals=100,weights=1-4", 100, func(i int) int { return 1 + i%4 }},
		{"table/shares/reals=10,weights=1-10", 10, func(i int) int { return 1 + i }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			rng := rand.New(rand.NewPCG(11, uint64(bc.n)))
			logs := newLogTable()
			largest, off := 0.0, 0.0
			for b.Loop() {
				reals := randomReals(rng, bc.n, bc.weight)
				l, o := unevenness(reals, held(slotTable(inService(reals, weigh(logs, reals)))))
				largest, off = max(largest, l), max(off, o)
			}
			if bc.name == "table/shares/reals=100" {
				b.ReportMetric(largest, "largest_over_mean")
			}
			b.ReportMetric(100*off, "largest_deviation_percent")
		})
	}
}

// milliseconds is what one of each things of an iteration took.
func milliseconds(b *testing.B, each int) float64 {
	return float64(b.Elapsed().Microseconds()) / 1000 / float64(b.N*each)
}

// unevenness gives the largest share over the mean, and the largest difference of a share from what the weight says, as
// a part of it.
func unevenness(reals []weighed, slots map[uint16]int) (largest, off float64) {
	total := 0
	for _, r := range reals {
		total += r.weight
	}
	for i, r := range reals {
		n := float64(slots[uint16(i+1)])
		due := float64(r.weight) / float64(total) * bpf.Slots
		largest = max(largest, n/(bpf.Slots/float64(len(reals))))
		off = max(off, math.Abs(n/due-1))
	}
	return largest, off
}
