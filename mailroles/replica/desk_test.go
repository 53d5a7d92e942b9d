package replica

import (
	"encoding/json"
	"strings"
	"testing"

	"anycastle/mailroles/replica/chain"
)

func TestOnlyOneWithoutAVoteIsToldWhereToFollowFrom(t *testing.T) {
	r := newRig(t, Wait)
	r.start(everybody...)
	first := r.active()
	for _, name := range []string{"west-store1", "west-standby", "east-standby"} {
		r.follows(name, first)
	}
	arg, err := json.Marshal(chain.Position{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.answerBase(t.Context(), "west-store1", arg, nil); err == nil {
		t.Error("one that has a vote was told where to follow from")
	}
	r.stop("west-store1", "west-standby")
	admit := first.answers()["admit"]
	if _, err := admit(t.Context(), "west-store1", nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := first.answerBase(t.Context(), "west-store1", arg, nil); err != nil {
		t.Error(err)
	}
}

// A leader that has changed while a state was on its way is asked by whoever took it.
func TestWhoeverLeadsIsAskedWhereToFollowFrom(t *testing.T) {
	r := newRig(t, Wait)
	r.start(everybody...)
	first := r.active()
	for _, name := range []string{"west-store1", "west-standby"} {
		r.follows(name, first)
	}
	other := r.running["west-standby"]
	l := &life{r: other.Replica, dir: other.groupDir(), mail: other.Store()}
	_, from, err := l.base(t.Context(), "west-store1", chain.Position{})
	if from != first.self.Name || err == nil || !strings.Contains(err.Error(), "west-standby has not been admitted") {
		t.Errorf("%s answered: %v; want %s, which says no", from, err, first.self.Name)
	}
}
