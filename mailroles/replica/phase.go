package replica

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Phase is what a replica does.
type Phase string

// The phases.
const (
	Starting  Phase = "starting"
	Blank     Phase = "blank"   // has no state to follow from
	Seeding   Phase = "seeding" // takes that of the active one
	Following Phase = "following"
	Passive   Phase = "passive" // leads, and does not serve
	Active    Phase = "active"
	Failed    Phase = "failed" // will be opened again
)

// reason is a kind of unfitness.
type reason string

const (
	badDisk    reason = "disk"
	badStore   reason = "store"
	badService reason = "service"
	ordered    reason = "order"
)

// enter notes what the replica does.
func (r *Replica) enter(p Phase, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase == p && r.why == why {
		return
	}
	if r.phase != p {
		r.log.Info("replica changed state", "old", string(r.phase), "new", string(p), "why", why)
		r.since = time.Now()
	}
	r.phase, r.why = p, why
	r.tell()
}

// setUnfit says why the replica must not be active, or, with an empty text, that this is over.
func (r *Replica) setUnfit(kind reason, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unfit[kind] == why {
		return
	}
	if why == "" {
		r.log.Info("replica is fit again", "reason", string(kind), "old", r.unfit[kind])
		delete(r.unfit, kind)
	} else {
		r.log.Warn("replica is unfit", "reason", string(kind), "why", why)
		r.unfit[kind] = why
	}
	r.tell()
	if r.exchange != nil {
		r.exchange.Poke()
	}
}

// tell wakes who waits for a change. The caller holds mu.
func (r *Replica) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// fitness says why the replica must not be active, and gives a channel that is closed at the next change.
func (r *Replica) fitness() (why string, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unfitWhy(), r.changed
}

// unfitWhy is called with mu held.
func (r *Replica) unfitWhy() string {
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(r.unfit)) {
		list = append(list, fmt.Sprintf("%s: %s", kind, r.unfit[kind]))
	}
	return strings.Join(list, "; ")
}

// pin keeps the replica active though a preferred one could be; the zero time: no longer.
func (r *Replica) pin(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pinned = at
}

// isPinned reports whether an operator has chosen this replica. A choice that led to nothing, as the move failed, does not count
// for a later term.
func (r *Replica) isPinned(e *epoch) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.pinned.IsZero() && e.since.Sub(r.pinned) < 2*moveTime
}

func (r *Replica) groupDir() string { return filepath.Join(r.opt.Dir, groupDir) }
