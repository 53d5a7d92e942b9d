package lb

import (
	"math"
	"math/rand/v2"
	"testing"

	"anycastle/bpf"
)

func TestLogTable(t *testing.T) {
	logs := newLogTable()
	for i, got := range logs {
		want := math.Log2(1+float64(i)/(1<<logBits)) * (1 << 32)
		if d := want - float64(got); d < -0.01 || d > 1.01 { // rounded down
			t.Fatalf("entry %d is %d, want %.2f", i, got, want)
		}
	}
}

func TestExponential(t *testing.T) {
	logs := newLogTable()
	rng := rand.New(rand.NewPCG(1, 2))
	values := []uint64{0, 1, math.MaxUint64, math.MaxUint64 - 1, 1 << 63, 1<<63 - 1}
	for range 100_000 {
		values = append(values, rng.Uint64()>>rng.IntN(64), ^(rng.Uint64() >> rng.IntN(64)))
	}
	for _, v := range values {
		got := logs.exponential(v)
		want := 64.0 * (1 << 32)
		if v != math.MaxUint64 {
			want = -math.Log2(float64(^v)/(1<<64)) * (1 << 32)
		}
		if v < 1<<52 {
			want = math.Log2E * float64(v) / (1 << 32) // where the line above has no digits left
		}
		if math.Abs(float64(got)-want) > 2000 { // of 2^32: the table is interpolated
			t.Fatalf("exponential(%#x) = %d, want %.0f", v, got, want)
		}
	}
}

func TestPlaceIsAPermutation(t *testing.T) {
	for _, of := range candidates(20, 1) {
		c := newContender(of.addr, 1, weightOne)
		seen := make([]bool, bpf.Slots)
		for slot := range bpf.Slots {
			if p := c.place(uint16(slot)); seen[p] {
				t.Fatalf("%v has place %d twice", c.addr, p)
			} else {
				seen[p] = true
			}
		}
	}
}

// TestAtLeastIsABound checks what lets most scores go uncomputed.
func TestAtLeastIsABound(t *testing.T) {
	logs := newLogTable()
	for i, of := range candidates(20, 1) {
		for _, weight := range []uint32{leastWeight, weightOne, weightOne*3 + 7, 1000 * mostFactor} {
			c := newContender(of.addr, 1, weight)
			for slot := i; slot < bpf.Slots; slot += 97 {
				place := c.place(uint16(slot))
				if least, score := c.atLeast(place), c.score(c.luck(logs, place, salt(slot))); least > score {
					t.Fatalf("%v with weight %d in slot %d: at least %d, and %d", c.addr, weight, slot, least, score)
				}
			}
		}
	}
}
