package rhi

import (
	"context"
	"errors"
	"time"
)

// loop answers to what happens, until ctx is done and a router has taken leave.
func (r *Role) loop(ctx context.Context, s *speaker, kernel *fib, d *detector) error {
	inherited, err := inherit(kernel)
	if err != nil {
		return err
	}
	settled := time.After(r.cfg.Hold)
	tick := time.NewTicker(resync)
	defer tick.Stop()
	changed, rest := r.changed, time.NewTimer(time.Hour)
	defer rest.Stop()
	course := r.newCourse()
	defer course.close()
	broken := "" // what the last sync could not do
	lost, failed := d.channels()
	done, ctx := ctx.Done(), context.WithoutCancel(ctx) // a router goes on for a while
	for {
		select {
		case <-done:
			if on, err := r.end(ctx, s, course); err != nil || !on {
				return err
			}
			done = nil
		case <-course.leave.C:
			return nil
		case <-course.settle.C:
			if err := r.proceed(ctx, s, course); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case c := <-lost:
			if err := s.mend(ctx, r.noteLost(c)); err != nil {
				return err
			}
			r.tell()
		case c := <-r.peerCh:
			if err := r.take(ctx, s, c, course); err != nil {
				return err
			}
			continue
		case <-course.again.due.C:
			r.retell(ctx, s, course.again)
			continue
		case <-settled:
			inherited = nil
		case <-tick.C:
			if err := r.mendOverdue(ctx, s); err != nil {
				return err
			}
		case <-changed:
		case <-rest.C:
			changed = r.changed
			continue
		}
		course.again.note(r.takeHeard(), time.Now())
		began := time.Now()
		broken = r.noteSync(broken, r.sync(kernel, inherited))
		changed = nil
		rest.Reset(restAfter(time.Since(began)))
	}
}

// restAfter gives the pause after a sync that took so long. When many routes change one after another, as when a session begins or
// ends, they are taken together, or syncing would leave no time for anything else.
func restAfter(took time.Duration) time.Duration { return min(2*took, longestRest) }

func (r *Role) mendOverdue(ctx context.Context, s *speaker) error {
	for _, todo := range r.overduePeers() {
		if err := s.mend(ctx, todo); err != nil {
			return err
		}
	}
	return nil
}

// inherit lists the routes of a predecessor that died: traffic follows them until the peers had time to tell us better.
func inherit(kernel *fib) (prefixSet, error) {
	if kernel == nil {
		return nil, nil
	}
	have, _, err := kernel.list()
	if err != nil {
		return nil, err
	}
	inherited := prefixSet{}
	for p := range have {
		inherited[p] = struct{}{}
	}
	return inherited, nil
}

// take takes a step of a session.
func (r *Role) take(ctx context.Context, s *speaker, c peerChange, course *course) error {
	todo, err := r.step(ctx, s, c)
	if err := errors.Join(err, s.mend(ctx, todo)); err != nil {
		return err
	}
	r.tell()
	if c.state == established {
		course.again.begun(c.address)
		r.come(course)
	}
	return nil
}

// noteSync logs when syncing begins to fail, fails otherwise, or works again, and returns the text of the error.
func (r *Role) noteSync(before string, err error) string {
	now := ""
	if err != nil {
		now = err.Error()
		r.metrics.syncErrors.Inc()
	}
	switch {
	case now == before:
	case err != nil:
		r.log.Error("routes out of line, will try again", "err", err)
	default:
		r.log.Info("routes in line again", "old", before)
	}
	return now
}
