package replica

import (
	"context"
	"fmt"
	"time"

	"anycastle/mailroles/store"
)

// serveRetry is how long a replica that could not serve is unfit to be active.
const serveRetry = 5 * time.Second

// epoch is the time between Led and Lost.
type epoch struct {
	term   uint64
	since  time.Time
	done   <-chan struct{} // closed when the replica ceases to lead
	cancel context.CancelFunc
	served chan struct{} // closed when nothing is served any more
}

// led begins an epoch: everything that was committed has been applied.
func (l *life) led(term uint64) {
	r := l.r
	ctx, cancel := context.WithCancel(context.Background())
	e := &epoch{term: term, since: time.Now(), done: ctx.Done(), cancel: cancel, served: make(chan struct{})}
	if err := l.mail.Lead(); err != nil {
		r.log.Error("store cannot lead", "term", term, "err", err)
		r.setUnfit(badStore, err.Error())
		l.giveUp(err)
	}
	r.epoch.Store(e)
	r.exposeFrom(e)
	r.log.Info("replica leads", "term", term)
	go func() {
		defer close(e.served) // lost waits for it
		r.serve(ctx, l.mail, e)
	}()
}

// giveUp has the store be opened anew: one that could not lead once would be unfit for good.
func (l *life) giveUp(err error) {
	select {
	case l.unable <- fmt.Errorf("lead: %w", err):
	default:
	}
}

// lost ends an epoch: nobody is told anything from now on, and the sessions end.
func (l *life) lost() {
	r := l.r
	e := r.epoch.Swap(nil)
	if e == nil {
		return
	}
	e.cancel()
	l.mail.Follow()
	<-e.served
	r.pin(time.Time{})
	r.enter(Following, fmt.Sprintf("led until term %d ended", e.term))
	r.log.Info("replica does not lead any more", "term", e.term, "after", time.Since(e.since))
}

// serve serves the mail while the replica is fit, until ctx ends. Whether it is goes before whether another one could be
// active: the steward hands over.
func (r *Replica) serve(ctx context.Context, mail *store.Store, e *epoch) {
	for ctx.Err() == nil {
		why, changed := r.fitness()
		if why == "" {
			r.enter(Active, fmt.Sprintf("elected in term %d", e.term))
			err := r.opt.Serve(ctx, mail, e.term)
			if ctx.Err() != nil {
				return
			}
			why = fmt.Sprintf("cannot serve: %v", err)
			r.log.Error("replica leads and cannot serve", "term", e.term, "err", err)
			r.setUnfit(badService, why)
			time.AfterFunc(serveRetry, func() { r.setUnfit(badService, "") })
			continue
		}
		r.enter(Passive, "leads, and is unfit: "+why)
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}
