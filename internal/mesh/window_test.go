package mesh

import "testing"

func TestWindow(t *testing.T) {
	var w Window
	for _, step := range []struct {
		number int64
		ok     bool
	}{{5, true}, {5, false}, {3, true}, {3, false}, {4, true}, {70, true}, {6, false}, {7, true}, {7, false}, {69, true}, {1000, true}, {936, false}, {937, true}, {70, false}} {
		if ok := w.Take(step.number); ok != step.ok {
			t.Errorf("%d: %v, want %v", step.number, ok, step.ok)
		}
	}
}
