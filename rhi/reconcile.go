package rhi

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// wanted gives what is to be announced now. The caller holds mu.
func (r *Role) wanted() announceTable {
	want, last := announceTable{}, r.cfg.lastRungs()
	for p, rungs := range r.health {
		if r.cfg.refuse(p) == "" && !slices.Equal(rungs, last) {
			want[p] = rungs
		}
	}
	for _, p := range r.cfg.Announce {
		want[p] = make([]uint32, len(last)) // at the first rung
	}
	return want
}

// announce brings what is announced to what is wanted and reads the routing table back, which it gives. The table is read a
// second time only when something was changed: each reading costs gobgp about a millisecond. The caller holds mu.
func (r *Role) announce() ([]path, error) {
	want := r.wanted()
	// withdraw first: traffic that still comes for a withdrawn prefix is lost, a late announce costs only time. What stood
	// when it was last read back goes before anything is read, as reading takes a while.
	stood := r.stands
	_, early := announcePlan(want, stood)
	told := r.noteSending(want, stood, early)
	r.stands = nil
	err := r.speaker.withdraw(early)
	before, paths, readErr := r.announced()
	if readErr != nil {
		r.settle(told, early)
		return nil, errors.Join(err, readErr)
	}
	now := before
	add, del := announcePlan(want, before)
	told = append(told, r.noteSending(want, before, add, del)...)
	if len(add)+len(del) > 0 {
		err = errors.Join(err, r.speaker.withdraw(del), r.speaker.announce(add, want))
		now, paths, readErr = r.announced()
	}
	if err := errors.Join(err, readErr); err != nil {
		r.settle(told, early, add, del)
		return paths, err
	}
	r.stands = now
	missing, left := announcePlan(want, now)
	r.settle(told, missing, left)
	del = newPrefixSet(early, del).sorted()
	for _, p := range del {
		if !slices.Contains(left, p) {
			r.log.Info("withdrawn", "prefix", p)
			r.metrics.withdraws.Inc()
		}
	}
	for _, p := range add {
		if !slices.Contains(missing, p) {
			r.noteAnnounced(p, before, now)
		}
	}
	r.metrics.announced.Set(float64(len(now)))
	if len(missing)+len(left) > 0 {
		return paths, fmt.Errorf("read back announced routes: %v missing, %v left over", missing, left)
	}
	return paths, nil
}

func (r *Role) noteAnnounced(p netip.Prefix, before, now announceTable) {
	if old, ok := before[p]; ok {
		r.log.Info("rung changed", "prefix", p, "old", r.cfg.sent(old), "new", r.cfg.sent(now[p]))
		r.metrics.rungChanges.Inc()
		return
	}
	r.log.Info("announced", "prefix", p, "source", r.source(p), "sent", r.cfg.sent(now[p]))
	r.metrics.announces.Inc()
}

// announced reads the routing table from the speaker, and finds the own routes in it. One with foreign markers has a nil row.
func (r *Role) announced() (announceTable, []path, error) {
	paths, err := r.speaker.paths()
	if err != nil {
		return nil, nil, err
	}
	own, groups := announceTable{}, len(r.cfg.groupNames())
	for _, p := range paths {
		if p.own {
			own[p.prefix] = rungsOf(p.markers, groups)
		}
	}
	return own, paths, nil
}

// own is the set of prefixes that are never learned from a peer. The caller holds mu.
func (r *Role) own() prefixSet {
	s := newPrefixSet(r.cfg.Announce)
	for p := range r.health {
		s[p] = struct{}{}
	}
	return s
}

func (r *Role) source(p netip.Prefix) Source {
	switch {
	case slices.Contains(r.cfg.Announce, p):
		return Own
	case r.health[p] != nil:
		return Health
	}
	return Learned
}
