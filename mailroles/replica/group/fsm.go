package group

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"anycastle/mailroles/replica/chain"
)

// applier hands what is committed to the machine, in order and each operation once, and stops at the first that does not
// follow the one before it.
type applier struct {
	machine Machine // nil on a witness, which follows the chain only
	health  *health
	applied func(chain.Position) // after each operation

	mu sync.Mutex
	at chain.Position
}

// Apply applies an operation. After a failure all others are refused, so that nothing is applied past a gap.
func (a *applier) Apply(l *raft.Log) any {
	if a.health.failed() != nil || l.Index <= a.position().Index {
		return nil
	}
	if err := a.apply(l); err != nil {
		a.health.fail(err)
	}
	return nil
}

func (a *applier) apply(l *raft.Log) error {
	f, err := parseFrame(l.Data)
	if err != nil {
		return fmt.Errorf("entry %d: %w", l.Index, err)
	}
	if at := a.position(); f.prev != at.Chain {
		return fmt.Errorf("%w at %d: it follows %.8s, and operation %d here is %.8s", ErrDiverged, l.Index, f.prev, at.Index, at.Chain)
	}
	next := chain.Position{Index: l.Index, Chain: f.head()}
	if a.machine != nil {
		if err := a.machine.Apply(next.Index, next.Chain, f.record); err != nil {
			return fmt.Errorf("apply operation %d: %w", l.Index, err)
		}
	}
	a.mu.Lock()
	a.at = next
	a.mu.Unlock()
	a.applied(next)
	return nil
}

func (a *applier) position() chain.Position {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at
}

// StoreConfiguration is here so that the library counts a change of members as applied, and a marker may follow it.
func (a *applier) StoreConfiguration(uint64, raft.Configuration) {}

// Snapshot begins a marker at the last operation.
func (a *applier) Snapshot() (raft.FSMSnapshot, error) {
	if err := a.health.failed(); err != nil {
		return nil, err
	}
	return checkpoint{a, a.position()}, nil
}

// Restore is not reached: a member that is too far behind is seeded by its owner; see inbox.
func (a *applier) Restore(r io.ReadCloser) error {
	return errors.Join(fmt.Errorf("%w: it was sent a marker", ErrBlank), r.Close())
}

type checkpoint struct {
	a  *applier
	at chain.Position
}

// Persist has the machine bring its state to disk before the marker says so.
func (c checkpoint) Persist(s raft.SnapshotSink) error {
	if m := c.a.machine; m != nil {
		if err := m.Checkpoint(); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		if saved := m.Saved(); saved.Index < c.at.Index {
			return fmt.Errorf("checkpoint: operation %d is saved, and %d was applied", saved.Index, c.at.Index)
		}
	}
	_, err := s.Write(encodePosition(c.at))
	return err
}

// Release has nothing to release.
func (c checkpoint) Release() {}
