package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

func (n *process) Admit() error { return n.Serving() }

func (n *process) Serving() error {
	n.lun.mu.Lock()
	defer n.lun.mu.Unlock()
	if n.lun.leader != n.node || n.dead {
		return ErrPassive
	}
	return nil
}

func (n *process) Append(record []byte) (func() (uint64, error), error) {
	c := n.lun
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leader != n.node || n.dead {
		return nil, ErrPassive
	}
	var prev Sum
	if len(c.chains) > 0 {
		prev = c.chains[len(c.chains)-1]
	}
	c.records, c.chains = append(c.records, record), append(c.chains, prev.Next(record))
	index, term := uint64(len(c.records)), n.term
	if !c.withhold {
		c.committed = index
	}
	c.moved.Broadcast()
	return func() (uint64, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for n.term == term && !n.dead && n.applied < index && n.failed == nil {
			c.moved.Wait()
		}
		if n.term != term || n.dead || n.failed != nil {
			return 0, ErrPassive
		}
		return index, nil
	}, nil
}

func (n *process) Push(b Body) {
	c := n.lun
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, to := range c.nodes {
		if to == n.node || c.mute || to.store == nil || c.lossy && c.rand.IntN(3) == 0 {
			continue
		}
		s, from := to.store, n.store
		if n.dead {
			continue
		}
		c.pushes.Go(func() {
			err := c.copyBody(from, s, b)
			c.mu.Lock()
			defer c.mu.Unlock()
			gone := to.store != s || n.dead || s.Err() != nil || errors.Is(err, ErrNoMessage) // so may the message be by now
			if err != nil && !errors.Is(err, errCrash) && !gone {
				c.t.Errorf("push to %s: %v", to.name, err)
			}
		})
	}
}

// copyBody has a replica take a body from another, unless the process of the one has ended.
func (c *cluster) copyBody(from, to *Store, b Body) error {
	c.taking.RLock()
	defer c.taking.RUnlock()
	if c.ended[to] {
		return ErrPassive
	}
	f, err := from.OpenBody(b)
	if err != nil {
		return err
	}
	return errors.Join(to.TakeBody(b, f), f.Close())
}

// Prove has another replica have the bodies.
func (n *process) Prove(index uint64, bodies []Body) error {
	c := n.lun
	c.mu.Lock()
	if c.leader != n.node || n.dead {
		c.mu.Unlock()
		return ErrPassive
	}
	if index > c.committed || n.store.Applied().Index < index {
		c.t.Errorf("operation %d is to be proven that is not done", index)
	}
	alone := c.alone
	me := n.store
	var others []*Store
	for _, o := range c.nodes {
		if o != n.node && o.store != nil && !o.doomed && o.store.Err() == nil {
			others = append(others, o.store)
		}
	}
	c.mu.Unlock()
	if alone || len(others) == 0 {
		return ErrAlone
	}
	for _, b := range bodies {
		if !me.HasBody(b) {
			return fmt.Errorf("%w: %s is not here", ErrAlone, b.Name)
		}
		if !slices.ContainsFunc(others, func(s *Store) bool { return s.HasBody(b) }) {
			if err := c.copyBody(me, others[0], b); err != nil {
				return fmt.Errorf("%w: %w", ErrAlone, err)
			}
		}
	}
	return nil
}

func (n *process) Fetch(_ context.Context, b Body) error {
	c := n.lun
	c.mu.Lock()
	me := n.store
	var others []*Store
	for _, o := range c.nodes {
		if o != n.node && o.store != nil {
			others = append(others, o.store)
		}
	}
	c.mu.Unlock()
	err := ErrNoMessage
	for _, o := range others {
		if err = c.copyBody(o, me, b); err == nil {
			return nil
		}
	}
	return err
}

// Elsewhere implements Surveyor: any other replica is of the other site.
func (n *process) Elsewhere() uint64 {
	c := n.lun
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.survey {
		return ^uint64(0)
	}
	upTo := uint64(0)
	for _, o := range c.nodes {
		if o != n.node && o.store != nil {
			upTo = max(upTo, min(o.store.Applied().Index, o.store.Complete()))
		}
	}
	return upTo
}

func (n *process) Exposed() bool { return false }
