package modeltest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSourceReachesEverything lets random frames reach each exit of the model, and says how often they did.
func TestSourceReachesEverything(t *testing.T) {
	w := NewWorld(rand.New(rand.NewPCG(1, 0)))
	s := NewSource(w, rand.New(rand.NewPCG(1, 1)))
	reached := map[string]int{}
	const frames = 100_000
	for range frames {
		frame := s.Next()
		if len(frame) < ethLen || len(frame) > Longest {
			t.Fatalf("frame of %d bytes", len(frame))
		}
		replies := w.LB.Replies
		r := w.LB.Run(frame, Ingress)
		for _, v := range []string{"4", "6"} {
			if (v == "6") != (len(r.Out) > 14 && frame[12] == 0x86) {
				continue
			}
			switch {
			case r.Verdict == Drop:
				reached["drop "+r.Reason]++
			case r.TooBig:
				reached["too big "+v]++
			case w.LB.Replies > replies:
				reached["echo "+v]++
			default:
				reached[fmt.Sprintf("verdict %d %s", r.Verdict, v)]++
			}
		}
	}
	reached["flows"], reached["fragments"] = len(w.LB.Flows), len(w.LB.Fragments)
	for _, what := range []string{
		"drop truncated", "drop bad_header", "drop ext_header", "drop fragment", "drop fragment_early", "drop out_of_service",
		"drop icmp_unhandled", "drop bad_inner", "drop no_table", "drop no_real", "drop no_next_hop", "drop ttl_expired", "drop too_big",
		"too big 4", "too big 6", "echo 4", "echo 6", "verdict 2 4", "verdict 2 6", "verdict 3 4", "verdict 3 6", "verdict 4 4", "verdict 4 6",
		"flows", "fragments",
	} {
		if reached[what] < 50 {
			t.Errorf("%s: %d of %d frames, want some", what, reached[what], frames)
		}
		t.Logf("%-22s %6d", what, reached[what])
		delete(reached, what)
	}
	if len(reached) > 0 {
		t.Errorf("exits that this test does not name: %v", slices.Sorted(maps.Keys(reached)))
	}
}

// TestSameNumbersSameFrames is what makes a finding repeatable.
func TestSameNumbersSameFrames(t *testing.T) {
	var first [][]byte
	for n := range 2 {
		s := NewSource(NewWorld(rand.New(rand.NewPCG(3, 0))), rand.New(rand.NewPCG(3, 1)))
		for i := range 200 {
			frame := s.Next()
			if n == 0 {
				first = append(first, frame)
			} else if !slices.Equal(first[i], frame) {
				t.Fatalf("frame %d is another the second time", i)
			}
		}
	}
}

func BenchmarkModel(b *testing.B) {
	w := NewWorld(rand.New(rand.NewPCG(1, 0)))
	s := NewSource(w, rand.New(rand.NewPCG(1, 1)))
	for b.Loop() {
		w.LB.Run(s.Next(), Ingress)
	}
}

// TestSourceReachesEverythingAtReal does the same for a real.
func TestSourceReachesEverythingAtReal(t *testing.T) {
	w := NewWorld(rand.New(rand.NewPCG(1, 0)))
	h, s := w.NewHost(), NewSource(w, rand.New(rand.NewPCG(1, 1)))
	reached := map[string]int{}
	const frames = 100_000
	for range frames {
		frame := s.NextAtReal()
		taken := h.Here.Packets
		r := h.Run(frame)
		switch {
		case r.Verdict == Drop:
			reached["drop "+r.Reason]++
		case h.Here.Packets > taken:
			reached["taken"]++
		default:
			reached[fmt.Sprintf("verdict %d", r.Verdict)]++
		}
	}
	reached["fragments"] = len(h.Fragments)
	for _, what := range []string{
		"drop truncated", "drop bad_header", "drop fragment", "drop not_own", "drop not_vip", "drop bad_inner", "drop ecn", "drop ttl_expired",
		"drop no_route", "taken", "verdict 2", "verdict 3", "verdict 4", "fragments",
	} {
		if reached[what] < 50 {
			t.Errorf("%s: %d of %d frames, want some", what, reached[what], frames)
		}
		t.Logf("%-22s %6d", what, reached[what])
		delete(reached, what)
	}
	if len(reached) > 0 {
		t.Errorf("exits that this test does not name: %v", slices.Sorted(maps.Keys(reached)))
	}
}
