package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"anycastle/mailroles/replica/bodies"
	"anycastle/mailroles/replica/group"
	"anycastle/mailroles/store"
)

// journal is what the store has of its replica.
type journal struct{ r *Replica }

var (
	_ store.Journal  = journal{}
	_ store.Surveyor = journal{}
)

// Admit implements store.Journal.
func (j journal) Admit() error {
	e := j.r.epoch.Load()
	if e == nil {
		return store.ErrPassive
	}
	if err := j.r.Serving(); err != nil {
		return err
	}
	if why, _ := j.r.fitness(); why != "" {
		return fmt.Errorf("%w: %s", store.ErrUnfit, why)
	}
	if why := j.r.unformed(); why != "" {
		return fmt.Errorf("%w: %s", store.ErrAlone, why)
	}
	if j.r.policy() == Wait && j.r.alone(e) {
		return fmt.Errorf("%w: the other site is gone", store.ErrAlone)
	}
	return nil
}

// Push implements store.Journal.
func (j journal) Push(b store.Body) { j.r.sender.Push(bodies.Body(b)) }

// Append implements store.Journal.
func (j journal) Append(record []byte) (wait func() (uint64, error), err error) {
	g := j.r.group.Load()
	if g == nil {
		return nil, store.ErrPassive
	}
	begun := time.Now()
	ready, err := g.Append(record)
	if err != nil {
		return nil, ofStore(err)
	}
	return func() (uint64, error) {
		index, err := ready()
		if err == nil {
			j.r.opt.Metrics.took("commit", time.Since(begun))
		}
		return index, ofStore(err)
	}, nil
}

// ofStore makes a store's error of one of the group.
func ofStore(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, group.ErrDisk):
		return fmt.Errorf("%w: %w", store.ErrUnfit, err)
	default: // nobody knows, and another replica may
		return fmt.Errorf("%w: %w", store.ErrPassive, err)
	}
}

// Fetch implements store.Journal.
func (j journal) Fetch(ctx context.Context, b store.Body) error {
	return j.r.fetcher.Get(ctx, bodies.Body(b))
}

// Elsewhere implements store.Surveyor.
func (j journal) Elsewhere() uint64 { return j.r.thereUpTo() }

// Exposed implements store.Surveyor.
func (j journal) Exposed() bool {
	j.r.mu.Lock()
	defer j.r.mu.Unlock()
	return !j.r.exposed.since.IsZero()
}

// Serving implements store.Journal.
func (j journal) Serving() error { return j.r.Serving() }

// Serving is nil while no other replica can be the active store, and else store.ErrPassive.
func (r *Replica) Serving() error {
	g := r.group.Load()
	if g == nil || r.epoch.Load() == nil {
		return store.ErrPassive
	}
	if err := g.Lease(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrPassive, err)
	}
	return nil
}
