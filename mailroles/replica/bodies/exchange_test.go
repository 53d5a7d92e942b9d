package bodies

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// teller is a replica whose state a test sets.
type teller struct {
	*Exchange
	relay *relay

	mu    sync.Mutex
	state State
}

func (r *teller) local() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

func (r *teller) set(s State) {
	r.mu.Lock()
	r.state = s
	r.mu.Unlock()
	r.Poke()
}

func tellers(t *testing.T, times Times, sites ...string) []*teller {
	t.Helper()
	var list []*teller
	for _, r := range newReplicas(t, sites...) {
		r.opt.Times = times
		tell := &teller{relay: r.relay}
		tell.Exchange = NewExchange(r.opt, tell.local)
		r.run(tell.Exchange.Run)
		list = append(list, tell)
	}
	return list
}

// meet waits until all know of all.
func meet(t *testing.T, list []*teller) {
	t.Helper()
	for _, r := range list {
		waitFor(t, "all are known", r.Changed, func() bool {
			for _, v := range r.Views() {
				if !v.Known || !v.Connected || v.Heard.IsZero() {
					return false
				}
			}
			return true
		})
	}
}

func TestStatesAreTold(t *testing.T) {
	list := tellers(t, quick, "east", "east", "west", "west")
	meet(t, list)
	want := State{Applied: 9, Complete: 7, Chain: "ab", Term: 3, Active: true, Blank: true, Fit: true, Why: "x", Free: 1 << 40, Missing: 2}
	for _, r := range list {
		want.Applied++
		r.set(want)
		for _, other := range list {
			if other == r {
				continue
			}
			name := r.opt.Self.Name
			waitFor(t, "the state of "+name, other.Changed, func() bool { return other.View(name).State == want })
			if diff := cmp.Diff(r.opt.Self, other.View(name).Peer); diff != "" {
				t.Error(diff)
			}
		}
	}
	if v := list[0].View("nobody"); v.Known || v.Connected {
		t.Errorf("view of nobody: %+v", v)
	}
}

// TestChangeIsToldAtOnce has the interval be so long that it cannot be what tells.
func TestChangeIsToldAtOnce(t *testing.T) {
	times := quick
	times.State, times.Timeout = time.Minute, 2*time.Minute
	list := tellers(t, times, "east", "west")
	for _, r := range list {
		waitFor(t, "known", r.Changed, func() bool { v := r.Views()[0]; return v.Known })
	}
	var worst time.Duration
	for i := range uint64(50) {
		began := time.Now()
		list[0].set(State{Applied: i + 1})
		waitFor(t, "the change", list[1].Changed, func() bool { return list[1].View("a").State.Applied == i+1 })
		worst = max(worst, time.Since(began))
	}
	t.Logf("worst of 50: %s", worst)
}

// TestHeardIsNoLaterThanThePeerWasAlive freezes what passes on, and lets it pass on much later: what was said then is old.
func TestHeardIsNoLaterThanThePeerWasAlive(t *testing.T) {
	times := quick
	times.Timeout = time.Minute // the connection lasts
	list := tellers(t, times, "east", "west")
	meet(t, list)
	frozen := time.Now()
	list[1].relay.freeze()
	list[1].set(State{Applied: 5}) // said while nothing passes
	waitFor(t, "time goes by", nil, func() bool { return time.Since(frozen) > 10*times.State })
	if heard := list[0].View("b").Heard; heard.After(frozen.Add(times.State)) {
		t.Errorf("heard %s after nothing passed any more", heard.Sub(frozen))
	}
	list[1].relay.thaw()
	thawed := time.Now()
	waitFor(t, "the old state comes", list[0].Changed, func() bool { return list[0].View("b").State.Applied == 5 })
	waitFor(t, "the peer is heard again", nil, func() bool { return list[0].View("b").Heard.After(thawed) })
}

func TestPeerThatIsSilentIsGone(t *testing.T) {
	list := tellers(t, quick, "east", "east", "west")
	meet(t, list)
	began := time.Now()
	list[2].relay.freeze()
	waitFor(t, "c is gone", list[0].Changed, func() bool { return !list[0].View("c").Connected })
	if took := time.Since(began); took > 5*quick.Timeout {
		t.Errorf("noticed after %s", took)
	}
	if !list[0].View("b").Connected {
		t.Error("b is gone, too")
	}
	list[2].relay.thaw()
	meet(t, list)
}

// TestPeerComesBack ends a process and begins it again.
func TestPeerComesBack(t *testing.T) {
	list := tellers(t, quick, "east", "west")
	meet(t, list)
	list[1].relay.cut()
	waitFor(t, "gone", list[0].Changed, func() bool { return !list[0].View("b").Connected })
	meet(t, list)
}
