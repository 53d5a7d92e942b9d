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

// loop owns what changes while an LB runs. One goroutine runs it.
type loop struct {
	*LB
	plane     dataplane
	have      tables
	in        inputs
	announced []netip.Prefix
	unsure    bool // the last Set did not succeed, so announced may not be what routers were told
}

// run takes in what probes and the kernel say, and applies what follows from it, until ctx is done.
func (l *loop) run(ctx context.Context, results <-chan probe.Result, hops <-chan map[netip.Addr]Hop) error {
	defer l.withdrawAll(ctx)
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	for {
		changed := true
		select {
		case <-ctx.Done():
			return nil
		case r := <-results:
			changed = l.takeResult(r)
		case h := <-hops:
			l.in.hops = h
		case <-retry.C:
		}
		if more := l.takeWaiting(results, hops); !changed && !more {
			continue
		}
		if !l.in.complete() {
			l.show()
			continue
		}
		if err := l.apply(ctx); err != nil && ctx.Err() == nil {
			l.log.Error("apply the desired state", "err", err)
			retry.Reset(retryAfter + rand.N(retryAfter/4))
		} else {
			retry.Stop()
		}
		l.show()
	}
}

// takeWaiting takes in what has come meanwhile and says whether anything changed: reals that fail together leave in one
// swap, not one after the other with a table computed for each.
func (l *loop) takeWaiting(results <-chan probe.Result, hops <-chan map[netip.Addr]Hop) (changed bool) {
	for {
		select {
		case r := <-results:
			changed = l.takeResult(r) || changed
		case h := <-hops:
			l.in.hops = h
			changed = true
		default:
			return changed
		}
	}
}

// takeResult notes a probe's result and says whether a state changed.
func (l *loop) takeResult(r probe.Result) bool {
	id := parseTargetID(r.Target.Name)
	l.showResult(id, r)
	if !r.Changed {
		return false
	}
	why := "answers"
	if r.Err != nil {
		why = r.Err.Error()
	}
	l.log.Info("probe state changed", "farm", id.farm, "real", id.name, "probe", r.Target.Config.Type,
		"old", l.in.probes[id], "new", r.State, "cause", why)
	l.in.probes[id] = r.State
	return true
}

// apply withdraws what may not be announced any more, changes the maps, and announces what they can now take: a packet
// that comes for an announced address finds a real. A withdrawal that does not succeed does not keep a dead real in the
// tables.
func (l *loop) apply(ctx context.Context) error {
	announce, withheld := l.in.announce()
	l.showWithheld(withheld)
	keep := slices.DeleteFunc(slices.Clone(l.announced), func(p netip.Prefix) bool { return !slices.Contains(announce, p) })
	withdrawn := l.announce(ctx, keep, withheld)
	if err := reconcile(l.plane, l.have, l.in.desired(l.have)); err != nil {
		return errors.Join(withdrawn, fmt.Errorf("change the data plane: %w", err))
	}
	if withdrawn != nil {
		return withdrawn
	}
	return l.announce(ctx, announce, withheld)
}

func (l *loop) announce(ctx context.Context, prefixes []netip.Prefix, withheld map[netip.Addr]string) error {
	if l.opts.Announcer == nil || slices.Equal(prefixes, l.announced) && !l.unsure {
		return nil
	}
	err := l.opts.Announcer.Set(ctx, prefixes)
	l.unsure = err != nil
	if err != nil {
		return fmt.Errorf("announce %v: %w", prefixes, err)
	}
	for _, p := range prefixes {
		if !slices.Contains(l.announced, p) {
			l.log.Info("address announced", "vip", p.Addr(), "old", "withdrawn", "new", "announced", "cause", "enough reals in service")
		}
	}
	for _, p := range l.announced {
		if !slices.Contains(prefixes, p) {
			l.log.Info("address withdrawn", "vip", p.Addr(), "old", "announced", "new", "withdrawn", "cause", withheld[p.Addr()])
		}
	}
	l.announced = prefixes
	return nil
}

// withdrawAll leaves the maps as they are: routers need a moment to follow, and the packets of that moment need a real.
func (l *loop) withdrawAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTime)
	defer cancel()
	withheld := map[netip.Addr]string{}
	for _, p := range l.announced {
		withheld[p.Addr()] = "stopping"
	}
	if err := l.announce(ctx, nil, withheld); err != nil {
		l.log.Error("withdraw before stopping", "err", err)
	}
	l.showWithheld(withheld)
	l.show()
}
