package lb

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// apply withdraws what may not be announced any more, changes the maps, and announces what they can now take: a packet
// that comes for an announced address finds a real. A withdrawal that does not succeed does not keep a dead real in the
// tables.
func (l *loop) apply(ctx context.Context) error {
	announce, withheld := l.in.announce()
	l.showWithheld(withheld)
	keep := slices.DeleteFunc(slices.Clone(l.announced), func(p netip.Prefix) bool { return !slices.Contains(announce, p) })
	withdrawn := l.announce(ctx, keep, withheld)
	if err := reconcile(l.plane, l.have, l.in.desired(l.have, now())); err != nil {
		return errors.Join(withdrawn, fmt.Errorf("change the data plane: %w", err))
	}
	replaced, err := l.plane.TakeOver()
	for _, name := range replaced {
		l.log.Info("program replaced", "uplink", name, "old", "of another version", "new", "of this one", "cause", "its tables are filled")
	}
	if err != nil {
		return errors.Join(withdrawn, err)
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
		switch why := l.refuses(p); {
		case slices.Contains(l.announced, p):
		case why != "":
			l.log.Warn("address cannot be announced", "vip", p.Addr(), "cause", why)
		default:
			l.log.Info("address announced", "vip", p.Addr(), "old", "withdrawn", "new", "announced", "cause", "enough reals in service")
		}
	}
	for _, p := range l.announced {
		if !slices.Contains(prefixes, p) && l.refuses(p) == "" {
			l.log.Info("address withdrawn", "vip", p.Addr(), "old", "announced", "new", "withdrawn", "cause", withheld[p.Addr()])
		}
	}
	l.announced = prefixes
	return nil
}

// refuses says why the Announcer cannot announce a prefix; empty: it can.
func (l *LB) refuses(p netip.Prefix) string {
	if l.opts.Announcer == nil {
		return ""
	}
	return l.opts.Announcer.Refuse(p)
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
