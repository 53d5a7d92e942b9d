package gss

import (
	"maps"
	"slices"
	"strings"
	"time"

	"anycastle/gss/decide"
)

// drained is how far a GSS is with an order to drain, as it stands in a telling. It has no time of a clock: clocks may differ.
type drained struct {
	Order string `json:"o"`           // what it is about, such as site/east
	Since int64  `json:"s"`           // when the order was given, by its stamp, in nanoseconds
	Left  int64  `json:"l,omitempty"` // milliseconds for which resolvers may hold what was given
	Given bool   `json:"g,omitempty"` // it is given at this moment
}

// maxLeft bounds drained.Left: a drain may begin much later.
const maxLeft = int64(10 * 365 * 24 * time.Hour / time.Millisecond)

func (d drained) valid() bool {
	kind, name, _ := strings.Cut(d.Order, "/")
	return (kind == "answer" || kind == "site") && objectName.MatchString(name) && d.Since > 0 && d.Left >= 0 && d.Left <= maxLeft
}

// held is how far a GSS is with an order to drain.
type held struct {
	since time.Time // the stamp of the order
	until time.Time // by our clock; resolvers may hold what was given until then
	given bool      // it is given at this moment

	number int64     // of the telling that said so
	at     time.Time // when it was heard
}

// drain says how far the drain of an answer is, by the replies that are given at this moment; false: it does not drain.
// The caller holds mu.
func (e *engine) drain(answer string, now time.Time) (d decide.Drain, ok bool) {
	if given := e.current.Load(); given != nil && given.generation != e.last.Generation {
		return e.last.Drain(answer, given.decision, now)
	}
	d, ok = e.last.Drains[answer]
	return d, ok
}

// drains gives how far this GSS is with the orders to drain that a decision has taken, by what they are about, whatever else is
// ordered about an answer. The caller holds mu.
func (e *engine) drains(now time.Time) map[string]held {
	all, config := map[string]held{}, &e.inForce().next.config
	for key, o := range e.obeyed {
		if o.Kind != decide.KindDrain {
			continue
		}
		is := held{since: o.Since}
		for i := range config.Answers {
			if !o.isAbout(&config.Answers[i]) {
				continue
			}
			d, _ := e.drain(config.Answers[i].Name, now)
			is.given = is.given || d.Given
			if d.Clear.After(is.until) {
				is.until = d.Clear
			}
		}
		all[strings.TrimPrefix(key, orderPrefix)] = is
	}
	return all
}

// tellDrains puts how far drains are into the form of tellings.
func tellDrains(all map[string]held, now time.Time) (list []drained) {
	for _, about := range slices.Sorted(maps.Keys(all)) {
		is := all[about]
		left := (max(0, is.until.Sub(now)) + time.Millisecond - 1) / time.Millisecond
		list = append(list, drained{Order: about, Since: is.since.UnixNano(), Left: min(int64(left), maxLeft), Given: is.given})
	}
	return list
}

// drained gives how far others have said to be with an order to drain, by name.
func (v *vantages) drained(o Order) map[string]held {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[string]held{}
	for name, is := range v.byName {
		if h, ok := is.drains[strings.TrimPrefix(o.key(), orderPrefix)]; ok && is.tells(h.at) && h.since.Equal(o.Since) {
			all[name] = h
		}
	}
	return all
}

// VantageDrain is how far another GSS that counts is with an order to drain.
type VantageDrain struct {
	Vantage string    `json:"vantage"`
	Heard   time.Time `json:"heard,omitzero"`
	Counts  bool      `json:"counts"`         // it was heard lately; if not, nobody knows what it gives
	Taken   bool      `json:"taken"`          // it knows the order
	Given   bool      `json:"given"`          // it gives an answer: until Clear, and after that as nothing else works there
	Clear   time.Time `json:"clear,omitzero"` // no resolver that honours TTLs holds what it gave after that
	Done    bool      `json:"done"`
}

// elsewhere gives how far the others are with an order to drain. The caller holds mu.
func (e *engine) elsewhere(o Order, vantages map[string]decide.Vantage, now time.Time) (list []VantageDrain) {
	said := e.others.drained(o)
	for _, name := range slices.Sorted(maps.Keys(vantages)) {
		if name == e.name {
			continue
		}
		h, taken := said[name]
		d := VantageDrain{Vantage: name, Heard: vantages[name].Heard, Taken: taken, Given: h.given, Clear: h.until}
		d.Counts = now.Sub(d.Heard) < decide.DefaultVote().Fresh
		d.Done = d.Counts && taken && !h.given && !now.Before(h.until)
		list = append(list, d)
	}
	return list
}
