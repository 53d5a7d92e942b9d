package decide

import (
	"encoding/json"
	"testing"
)

// Whatever a state file says, decisions can be made from it.
func FuzzState(f *testing.F) {
	for _, m := range Methods() {
		r := newRig(&testing.T{}, m)
		state, _ := Next(State{}, r.in, r.now)
		text, err := json.Marshal(state)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"rules":{"smtp":{"last_good":["gone"],"shares":{"east":1,"gone":0.5},"choices":[]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		state, err := DecodeState(text)
		if err != nil {
			return
		}
		for _, m := range Methods() {
			r := newRig(t, m)
			r.state = state
			r.next(0)
			r.checkBest(0)
			r.see("gss-a", "east", Failing)
			r.next(0)
			r.checkBest(0)
			for _, a := range []string{"west", "south"} {
				r.see("gss-a", a, Failing)
			}
			r.next(baseTTL)
			r.checkBest(0)
		}
	})
}
