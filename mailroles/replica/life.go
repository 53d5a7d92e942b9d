package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"anycastle/mailroles/replica/chain"
	"anycastle/mailroles/replica/group"
	"anycastle/mailroles/replica/wire"
	"anycastle/mailroles/store"
)

// groupDir is where a LUN's directory has the log of its group. A mailbox never has a name like that.
const groupDir = ".raft"

const (
	firstPause = 500 * time.Millisecond // before a replica that failed is opened again
	longPause  = 15 * time.Second       // the same when it fails again and again
	longLife   = time.Minute            // after which a failure counts as the first one
)

// errAgain ends a life that is to be followed by another at once.
var errAgain = errors.New("opened again")

// life is what a replica has open between one failure and the next.
type life struct {
	r    *Replica
	dir  string       // of the group
	mail *store.Store // nil at a witness

	order  *order     // that ends this life; nil: none
	unable chan error // of one: why the store could not lead
}

// lives opens the replica, and opens it again whenever it failed.
func (r *Replica) lives(ctx context.Context) error {
	pause := firstPause
	for {
		begun := time.Now()
		err := r.live(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errAgain) {
			continue
		}
		if time.Since(begun) > longLife {
			pause = firstPause
		}
		r.enter(Failed, fmt.Sprint(err))
		r.log.Error("replica failed, will be opened again", "err", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longPause)
	}
}

// live opens the store and the group, and returns when either fails or ctx ends.
func (r *Replica) live(ctx context.Context) (err error) {
	l := &life{r: r, dir: filepath.Join(r.opt.Dir, groupDir), unable: make(chan error, 1)}
	if err := os.MkdirAll(r.opt.Dir, 0o700); err != nil {
		return fmt.Errorf("make directory of the replica: %w", err)
	}
	if !r.self.Witness {
		if l.mail, err = store.OpenWith(store.Options{
			Root: r.opt.Dir, Log: r.log, Journal: journal{r}, Records: r.records, Since: r.opt.Node.Made(),
		}); err != nil {
			r.setUnfit(badStore, err.Error())
			return fmt.Errorf("open store: %w", err)
		}
		defer func() {
			r.store.set(nil)
			err = errors.Join(err, l.mail.Close())
		}()
		r.store.set(l.mail)
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	return l.follow(ctx)
}

// follow opens the group and takes part in it.
func (l *life) follow(ctx context.Context) error {
	r := l.r
	opt := group.Options{
		LUN: r.opt.LUN, Self: r.self.Name, Members: r.opt.Members, Dir: l.dir,
		Dial:  dialer(r.net),
		Conns: r.net.Accept(wire.Raft),
		Log:   r.log, Times: r.opt.Times,
		Led: l.led, Lost: l.lost,
		Broken: func(err error) { r.log.Error("replica stops", "err", err) },
	}
	if l.mail != nil {
		opt.Machine = machine{l.mail, r.exchange.Poke}
	}
	g, err := group.Open(opt)
	if errors.Is(err, group.ErrBlank) || errors.Is(err, group.ErrDiverged) { // opened again it would be no better
		return l.blank(err)
	}
	if err != nil {
		r.setUnfit(badDisk, err.Error())
		return fmt.Errorf("open group: %w", err)
	}
	r.era.Store(g.Status().Era)
	r.group.Store(g)
	defer r.group.Store(nil)
	r.setUnfit(badStore, "")
	r.enter(Following, "in the group")
	parts, running := errgroup.WithContext(ctx)
	parts.Go(func() error { return ended(running, g.Run(running), "group") })
	if l.mail != nil {
		parts.Go(func() error { return ended(running, l.watchStore(running, g), "store") })
	}
	parts.Go(func() error { return ended(running, r.steward(running, g), "steward") })
	parts.Go(func() error { return ended(running, r.watchEra(running, g), "watch of the era") })
	parts.Go(func() error { return l.obey(running) })
	err = parts.Wait()
	if o := l.order; o != nil { // whatever else ended at the same time
		o.done <- o.do(l)
		return errAgain
	}
	if errors.Is(err, group.ErrBlank) || errors.Is(err, group.ErrDiverged) {
		return l.blank(err)
	}
	return err
}

// ended makes an error of what should have gone on.
func ended(ctx context.Context, err error, what string) error {
	if err == nil && ctx.Err() == nil {
		return fmt.Errorf("%s ended", what)
	}
	return err
}

// watchStore runs the store. When its disk fails, the group is handed over while that can be done.
func (l *life) watchStore(ctx context.Context, g *group.Group) error {
	err := l.mail.Run(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	l.r.setUnfit(badStore, err.Error())
	if l.r.epoch.Load() != nil {
		handing, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if to, why := l.r.successor(g); to != "" {
			l.r.noteMove(to, "the disk failed", g.Transfer(handing, to))
		} else {
			l.r.log.Error("nobody to hand over to", "why", why)
		}
	}
	return err
}

// obey carries out what needs the group to be closed.
func (l *life) obey(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case o := <-l.r.orders:
		l.order = o
		return o
	case err := <-l.unable:
		return err
	}
}

// blank has the next life begin with the state of another replica.
func (l *life) blank(cause error) error {
	l.r.log.Warn("what the replica has cannot be trusted, it takes the state of the active one", "err", cause)
	if err := os.WriteFile(l.mark(), []byte(cause.Error()+"\n"), 0o600); err != nil {
		return errors.Join(cause, fmt.Errorf("mark replica as blank: %w", err))
	}
	return errAgain
}

// mark is a file that says that the group's directory must be seeded anew.
func (l *life) mark() string { return filepath.Join(l.r.opt.Dir, ".blank") }

// machine is the store as the group sees it.
type machine struct {
	*store.Store
	applied func()
}

// Apply implements group.Machine.
func (m machine) Apply(index uint64, head chain.Sum, record []byte) error {
	err := m.Store.Apply(index, head, record)
	m.applied()
	return err
}
