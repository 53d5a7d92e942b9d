package lb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"anycastle/internal/probe"
)

const (
	// hopGrace is how long the first probe of a real waits for its next hop: ARP needs a moment, and a probe before that
	// would fail.
	hopGrace = 2 * time.Second
	// peerGrace is how long a start waits for another LB to tell its states, and then once more for one that has begun to.
	peerGrace = 3 * time.Second
	// peerLook is how often the other LBs are counted.
	peerLook = 5 * time.Second
)

// loop owns what changes while an LB runs. One goroutine runs it.
type loop struct {
	*LB
	plane   dataplane
	have    tables
	in      inputs
	store   *store
	watch   watchers
	uplinks []int // interfaces that the program is on

	told   []Health  // what the Announcer was told last
	unsure bool      // the last Set did not succeed, so routers may have been told something else
	heard  time.Time // when the last result of a probe came
	began  time.Time // when the first of what is to be acted on came

	changed bool                 // something has that watchers must be told
	looked  bool                 // the first next hops are known
	addrs   []netip.Addr         // whose next hops are looked for
	ready   bool                 // all is known that must be before anything is installed
	failed  error                // of the last change: what is installed may not be what is desired
	alone   bool                 // no other LB is waited for
	held    map[realID]heldOrder // orders that come into force later

	counts  map[string]counted // of tables, by farm
	started time.Time

	probing map[realID]bool      // reals that are probed
	waiting map[realID]time.Time // until when others wait for their next hop
}

// watchers look at what the loop decides about.
type watchers struct {
	probes interface {
		SetTargets(targets []probe.Target) error
		ProbeNow(names []string)
	}
	hops   interface{ SetAddrs(addrs []netip.Addr) }
	agents interface {
		SetTargets(targets []netip.AddrPort)
		flowLists
	}
	stored <-chan struct{} // orders or states of LBs have changed
}

// run takes in what happens, and applies what follows from it, until ctx is done.
func (l *loop) run(ctx context.Context) error {
	defer close(l.ended)
	defer l.withdrawAll(ctx)
	l.in.states = l.store.load()
	l.takeStored()
	l.changed = true
	peers, waited := time.NewTimer(peerGrace), false
	defer peers.Stop()
	lease, renews := time.NewTimer(leaseEvery), true
	defer lease.Stop()
	timer := time.NewTimer(0) // the first look
	defer timer.Stop()
	for {
		changed := true
		select {
		case <-ctx.Done():
			return nil
		case e := <-l.events:
			l.began = now()
			changed = e(l)
		case question := <-l.questions:
			question(l)
			continue // what waits is as new as it was
		case <-lease.C:
			if renews = l.renew(ctx); renews {
				lease.Reset(leaseEvery)
			}
			continue
		case <-l.watch.stored:
			changed = l.takeStored()
		case <-peers.C:
			if l.alone = waited || len(l.in.peers) == 0; !l.alone {
				waited = true
				peers.Reset(peerGrace)
			}
		case <-timer.C:
			l.takeStored() // that another LB has gone is told by nobody
		}
		more := l.takeWaiting()
		if !renews {
			lease.Reset(leaseEvery)
			renews = true
		}
		if !changed && !more {
			continue
		}
		again := l.act(ctx)
		l.began = time.Time{}
		l.show()
		timer.Stop()
		if !again.IsZero() {
			timer.Reset(max(time.Until(again), time.Millisecond))
		}
	}
}

// takeWaiting takes in what has come meanwhile and says whether anything changed: reals that fail together leave in one
// swap, not one after the other with a table computed for each.
func (l *loop) takeWaiting() (changed bool) {
	for {
		select {
		case e := <-l.events:
			changed = e(l) || changed
		default:
			return changed
		}
	}
}

// now gives the time as records have it.
func now() time.Time { return time.Now().UTC().Round(0) }

// act does what follows from what is known, and gives when to act again though nothing happens.
func (l *loop) act(ctx context.Context) (again time.Time) {
	again = sooner(l.waitForHops(), nextDue(l.held))
	err := l.tellWatchers()
	if !l.ready && err == nil && (l.alone || l.in.told()) && l.in.complete() {
		l.ready = true
		l.in.catchUp()
	}
	if l.ready {
		l.evolve()
		again = sooner(again, l.in.deadline(now()))
		err = errors.Join(err, l.store.keep(l.in.states), l.apply(ctx))
	}
	if l.mesh != nil {
		again = sooner(again, now().Add(peerLook))
	}
	l.failed = err
	if err != nil && ctx.Err() == nil {
		l.log.Error("apply the desired state", "err", err)
		again = sooner(again, now().Add(retryAfter+rand.N(retryAfter/4)))
	}
	return again
}

// sooner gives the earlier of two times, of which the zero time is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// waitForHops lets those reals be probed that have a next hop or have waited for it long enough, and gives when that will
// be so for the next.
func (l *loop) waitForHops() (next time.Time) {
	for i := range l.in.cfg.Farms {
		f := &l.in.cfg.Farms[i]
		for j := range f.Reals {
			id := realID{f.Name, f.Reals[j].Name}
			if l.probing[id] {
				continue
			}
			until, ok := l.waiting[id]
			if !ok {
				until = now().Add(hopGrace)
				l.waiting[id] = until
			}
			if l.in.hops[f.Reals[j].Address].Resolved() || over(until, now()) {
				l.probing[id], l.changed = true, true
				delete(l.waiting, id)
				continue
			}
			next = sooner(next, until)
		}
	}
	return next
}

// evolve brings the states to now and logs what has changed.
func (l *loop) evolve() {
	before := map[string]farmState{}
	for farm, state := range l.in.states {
		before[farm] = state // next makes a new one
	}
	l.in.evolve(now())
	for farm, state := range l.in.states {
		for addr, rec := range state {
			old, had := before[farm][addr]
			if old.State != rec.State {
				l.log.Info("real changed", "farm", farm, "real", rec.Name, "old", old.State, "new", rec.State, "cause", rec.Why)
			}
			if had && rec.State.inService() && old.State.inService() && old.Weight != rec.Weight {
				l.log.Info("weight changed", "farm", farm, "real", rec.Name, "old", old.units(old.Weight), "new", rec.units(rec.Weight),
					"cause", l.in.farms[farm].source)
			}
			l.changed = l.changed || !had
		}
		for addr, old := range before[farm] {
			if _, ok := state[addr]; !ok {
				l.log.Info("real changed", "farm", farm, "real", old.Name, "old", old.State, "new", "gone", "cause", "it was removed from the config")
				l.changed = true
			}
		}
	}
}

// tellWatchers has everything looked at that must be, after it has been installed as far as the looking needs it.
func (l *loop) tellWatchers() error {
	if !l.changed {
		return nil
	}
	if addrs := l.in.addresses(); !slices.Equal(addrs, l.addrs) {
		l.addrs = addrs
		l.watch.hops.SetAddrs(addrs) // each call is answered with hops, whether they are others or not
	}
	if !l.looked {
		return nil // what an earlier process has installed is better than reals without next hops
	}
	want, index := l.in.desiredReals(l.have)
	if err := reconcile(l.plane, l.have, want); err != nil {
		return fmt.Errorf("change the data plane: %w", err)
	}
	if err := l.plane.ProbeFrom(l.links()); err != nil {
		return fmt.Errorf("send probes through the data plane: %w", err)
	}
	if err := l.watch.probes.SetTargets(l.in.targets(index, l.probing)); err != nil {
		return err
	}
	if l.watch.agents != nil {
		l.watch.agents.SetTargets(l.in.agentTargets())
	}
	l.changed = false
	return nil
}

// links are the interfaces that probes may leave by.
func (l *loop) links() []int {
	links := slices.Clone(l.uplinks)
	for _, hop := range l.in.hops {
		if hop.Resolved() {
			links = append(links, hop.Ifindex)
		}
	}
	slices.Sort(links)
	return slices.Compact(links)
}

// takeStored takes over orders that are in force and the states of other LBs, and says whether either is new.
func (l *loop) takeStored() bool {
	stored, peers, changed := l.store.view()
	var orders map[realID]Order
	orders, l.held = holdBack(l.in.orders, stored, l.held, len(peers) > 0, now())
	for id, o := range orders {
		if old := l.in.orders[id]; old != o {
			l.log.Info("order", "farm", id.farm, "real", id.name, "old", old.Kind, "new", o.Kind, "cause", o.String(), "deadline", o.Deadline)
		}
	}
	l.in.orders, l.in.peers = orders, peers
	return changed
}
