package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestTally knows the least index whatever comes and goes.
func TestTally(t *testing.T) {
	var got tally
	want := map[string]uint64{}
	for range 20_000 {
		key := fmt.Sprint(rand.IntN(50))
		if rand.IntN(2) == 0 {
			got.drop(key)
			delete(want, key)
		} else {
			want[key] = rand.Uint64N(20)
			got.set(key, want[key])
		}
		first := uint64(0)
		if len(want) > 0 {
			first = ^uint64(0)
		}
		for _, index := range want {
			first = min(first, index)
		}
		if got.first() != first || len(got.at) != len(want) || len(got.sorted) > 2*len(want)+64+20 {
			t.Fatalf("first is %d of %d (%d kept), want %d of %d", got.first(), len(got.at), len(got.sorted), first, len(want))
		}
	}
	if diff := cmp.Diff(want, got.at); diff != "" {
		t.Error(diff)
	}
}

// counted fails when what is counted as it comes and goes is not what there is.
func counted(t *testing.T, s *Store) {
	t.Helper()
	_, total, first := s.queueMissing(0) // counts, if nobody has
	q := &s.queue
	q.mu.Lock()
	was := q.lost
	q.lost = nil
	q.mu.Unlock()
	if _, n, f := s.queueMissing(0); n != total || f != first {
		t.Errorf("of the queue %d are missing, from operation %d on; counted are %d from %d on", n, f, total, first)
	}
	if diff := cmp.Diff(q.lost.at, was.at, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("counted wrongly: %s", diff)
	}
	r := s.replica
	r.mu.Lock()
	defer r.mu.Unlock()
	want := map[string]uint64{}
	for key, k := range r.lacks.byName {
		want[key] = k.index
	}
	if len(want) != len(r.lacks.came.at) {
		t.Errorf("%d bodies are missing, counted are %d", len(want), len(r.lacks.came.at))
	}
	for key, index := range want {
		if r.lacks.came.at[key] != index || r.lacks.came.first() > index {
			t.Errorf("%s of operation %d is counted at %d, the first at %d", key, index, r.lacks.came.at[key], r.lacks.came.first())
		}
	}
}
