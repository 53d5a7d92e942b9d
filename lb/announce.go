package lb

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// leaseEvery is how often the Announcer is told that this LB does not hang.
const leaseEvery = time.Second

// apply says first what is worse than it was, changes the maps, and then says what is better: a packet that comes for an
// announced address finds a real. A withdrawal that does not succeed does not keep a dead real in the tables.
func (l *loop) apply(ctx context.Context) error {
	health := l.in.health()
	for i := range health {
		health[i].At = l.began
	}
	_, withheld := fit(health)
	l.showWithheld(withheld)
	withdrawn := l.tell(ctx, lowered(l.told, health))
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
	return l.tell(ctx, health)
}

// lowered gives of each address that was told of the worse of both: what was told, and what is.
func lowered(told, health []Health) []Health {
	var list []Health
	for _, old := range told {
		i := slices.IndexFunc(health, func(h Health) bool { return h.Prefix == old.Prefix })
		switch {
		case i < 0:
		case health[i].worse(old):
			list = append(list, health[i])
		default:
			old.At = health[i].At
			list = append(list, old)
		}
	}
	return list
}

// tell says what is known of the addresses, if it is something else than before.
func (l *loop) tell(ctx context.Context, health []Health) error {
	if slices.EqualFunc(health, l.told, Health.equal) && !l.unsure {
		return nil
	}
	return l.say(ctx, health)
}

func (l *loop) say(ctx context.Context, health []Health) error {
	if l.opts.Announcer == nil {
		return nil
	}
	err := l.opts.Announcer.Set(ctx, health)
	l.unsure = err != nil
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	was, _ := fit(l.told)
	is, withheld := fit(health)
	for _, p := range is {
		if !slices.Contains(was, p) {
			l.log.Info("address fit to be announced", "vip", p.Addr(), "old", "unfit", "new", "fit", "cause", "enough reals in service")
		}
	}
	for _, p := range was {
		if !slices.Contains(is, p) {
			l.log.Info("address not fit to be announced", "vip", p.Addr(), "old", "fit", "new", "unfit", "cause", withheld[p.Addr()])
		}
	}
	l.told = health
	return nil
}

// renew says again what was said last, as a sign that neither this loop nor its probes hang. If there is nothing to say, it
// need not be called again before something has happened.
func (l *loop) renew(ctx context.Context) (said bool) {
	if !l.ready || l.unsure || l.deaf(now()) {
		return false
	}
	if err := l.say(ctx, l.told); err != nil && ctx.Err() == nil {
		l.log.Error("renew what is announced", "err", err)
	}
	if l.reporter != nil {
		l.reporter.renew()
	}
	return true
}

// deaf says whether no probe has given a result for so long that they must hang.
func (l *loop) deaf(now time.Time) bool {
	often := time.Duration(0) // if all is well a result comes at least so often
	for i := range l.in.cfg.Farms {
		for _, p := range l.in.cfg.Farms[i].Probes {
			if t := p.Interval + p.Timeout; often == 0 || t < often {
				often = t
			}
		}
	}
	return len(l.probing) > 0 && now.Sub(l.heard) > 2*often+leaseEvery
}

// standing says whether an address is announced, and why or why not.
func (l *LB) standing(p netip.Prefix) (announced bool, why string) {
	if l.opts.Announcer == nil {
		return false, "this process announces nothing"
	}
	return l.opts.Announcer.Standing(p)
}

// withdrawAll leaves the maps as they are: routers need a moment to follow, and the packets of that moment need a real.
func (l *loop) withdrawAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTime)
	defer cancel()
	withheld := map[netip.Addr]string{}
	for _, h := range l.told {
		withheld[h.Prefix.Addr()] = "stopping"
	}
	if err := l.tell(ctx, nil); err != nil {
		l.log.Error("withdraw before stopping", "err", err)
	}
	l.showWithheld(withheld)
	l.show()
}
