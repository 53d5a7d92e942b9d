package replica

import (
	"testing"
	"time"

	"anycastle/mailroles/replica/bodies"
)

// A replica that was promoted knows what a member of the other site had in the era before: more operations, maybe, than it
// has itself. They must not count for those that have the same indexes now.
func TestWhatWasSaidInAnotherEraProvesNothing(t *testing.T) {
	said := bodies.View{
		Peer: bodies.Peer{Name: "west-store1", Site: "west"}, Known: true, Heard: time.Now(),
		State: bodies.State{Era: 1, Applied: 1200, Complete: 1200},
	}
	if v := ofEra(said, 1); v != said {
		t.Errorf("in the same era: %+v, want %+v", v, said)
	}
	if v := ofEra(said, 2); v.Known || v.State.Applied > 0 || v.State.Complete > 0 || !v.Heard.IsZero() {
		t.Errorf("in the next era: %+v, want nothing known", v)
	}
}
