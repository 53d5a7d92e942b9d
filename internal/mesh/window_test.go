package mesh

import (
	"math"
	"testing"
)

func TestWindow(t *testing.T) {
	var w Window
	for _, step := range []struct {
		number int64
		ok     bool
	}{
		{5, true}, {5, false}, {3, true}, {3, false}, {4, true}, {70, true}, {6, true}, {6, false}, {69, true},
		{windowSize + 69, true}, {69, false}, {70, false}, {71, true}, {windowSize + 70, true}, {windowSize + 70, false},
		{5 * windowSize, true}, {4 * windowSize, false}, {4*windowSize + 1, true}, {windowSize + 70, false},
		{math.MaxInt64 - 1, true}, {math.MaxInt64, true}, {math.MaxInt64 - 1, false}, {math.MaxInt64 - 2, true},
	} {
		if ok := w.Take(step.number); ok != step.ok {
			t.Errorf("%d: %v, want %v", step.number, ok, step.ok)
		}
	}
}
