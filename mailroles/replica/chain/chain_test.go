package chain

import "testing"

// TestNext has each operation and its place change the head.
func TestNext(t *testing.T) {
	a, b := []byte("a"), []byte("b")
	heads := map[Sum]string{}
	for name, s := range map[string]Sum{
		"none": {}, "a": Sum{}.Next(a), "b": Sum{}.Next(b), "a b": Sum{}.Next(a).Next(b), "b a": Sum{}.Next(b).Next(a),
		"ab": Sum{}.Next([]byte("ab")),
	} {
		if other, ok := heads[s]; ok {
			t.Errorf("%s and %s have the same head", name, other)
		}
		heads[s] = name
	}
	if got := (Sum{0xab}).String()[:4]; got != "ab00" {
		t.Errorf("text begins with %s", got)
	}
}
