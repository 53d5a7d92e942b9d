package store

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
)

// errUnsettled says that the store has not done yet what it did before it was opened.
var errUnsettled = errors.New("store: operations of before the start are not done yet")

// replica is what a store of a replicated LUN has beside that of another.
type replica struct {
	store *Store

	leads  sync.RWMutex // held by operations from before they are proposed until they are proven; before all other locks
	leader bool         // operations may be proposed

	applying sync.Mutex // one operation at a time, and none while the store settles; before all but leads and saving
	settled  chan struct{}
	blank    bool                // no operation can be done
	buffered map[string][]logged // operations that are to be done when the store settles, by mailbox
	late     []logged            // of no mailbox

	bodiesSync sync.Mutex // guards Store.bodiesSynced

	mu      sync.Mutex // guards all below
	applied Position
	bytes   int64  // of operations since the last checkpoint
	expect  uint64 // last operation that may have been done before the start
	expects bool   // expect is known
	lacks   lacks
	placed  names
	gone    names // bodies of messages that went before they came
	doubted names // bodies that could not be proven
	proven  names // bodies that were, while this replica led
}

func newReplica(s *Store) *replica {
	return &replica{store: s, settled: make(chan struct{}), buffered: map[string][]logged{}, lacks: newLacks()}
}

// isSettled reports whether the state is that of Applied.
func (r *replica) isSettled() bool {
	select {
	case <-r.settled:
		return true
	default:
		return false
	}
}

// Saved tells what the tree has durably.
func (s *Store) Saved() Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Position{Index: s.saved.Index, Chain: s.saved.chain}
}

// Applied tells the last operation that was done here.
func (s *Store) Applied() Position {
	s.replica.mu.Lock()
	defer s.replica.mu.Unlock()
	return s.replica.applied
}

// Settled gives a channel that is closed once the state is that of Applied: what the tree had before the start may be
// ahead of the checkpoint, and is no state until all operations that led to it are done again.
func (s *Store) Settled() <-chan struct{} { return s.replica.settled }

// Expect tells the last operation that may have been done before the store was opened. It may be called again with a
// lower one.
func (s *Store) Expect(last uint64) {
	r := s.replica
	r.applying.Lock()
	defer r.applying.Unlock()
	r.mu.Lock()
	r.expect, r.expects = last, true
	there := r.applied.Index >= last
	r.mu.Unlock()
	if there {
		if err := r.settle(); err != nil {
			s.fail(err)
		}
	}
}

// Apply does the operation at an index, which every replica does in the same order, with the head of the chain of
// operations there. A record without a byte is no operation, and moves the position only. After an error this replica
// must stop: the record is no operation, or the disk failed.
func (s *Store) Apply(index uint64, chain Sum, record []byte) error {
	r := s.replica
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := s.Err(); err != nil {
		return err
	}
	if r.blank {
		return ErrBlank
	}
	at := Position{Index: index, Chain: chain}
	if now := s.Applied(); index <= now.Index {
		return fmt.Errorf("operation %d comes after %d", index, now.Index)
	}
	var o *op
	if len(record) > 0 {
		var err error
		if o, err = decodeOp(record); err != nil {
			return fmt.Errorf("operation %d: %w", index, err)
		}
	}
	if r.isSettled() {
		return r.do(at, o, record)
	}
	r.buffer(index, o)
	r.mu.Lock()
	r.applied = at
	r.bytes += int64(len(record))
	there := r.expects && index >= r.expect
	r.mu.Unlock()
	if there {
		return r.settle()
	}
	return nil
}

func (r *replica) buffer(index uint64, o *op) {
	switch {
	case o == nil:
	case o.ofAll():
		r.late = append(r.late, logged{index, o})
	default:
		r.buffered[o.Mailbox] = append(r.buffered[o.Mailbox], logged{index, o})
	}
}

// settle does the operations that were kept. The caller holds applying.
func (r *replica) settle() error {
	if r.isSettled() {
		return nil
	}
	if r.blank {
		return ErrBlank
	}
	s := r.store
	for address, ops := range r.buffered {
		m, err := s.replicaBox(address)
		if err != nil {
			return err
		}
		m.loading.Lock()
		err = m.load(ops)
		m.loading.Unlock()
		if err != nil {
			return err
		}
		s.note(func(rep *Report) { rep.Replayed += len(ops) })
	}
	r.buffered = nil
	close(r.settled)
	for _, l := range r.late {
		if err := r.command(l.index, l.op, func() {}); err != nil {
			return err
		}
	}
	r.late = nil
	return nil
}

// ofAll reports whether an operation is of no mailbox.
func (o *op) ofAll() bool { return o.Kind == opQueue || o.Kind == opSnapshot }

// command does an operation of no mailbox.
func (r *replica) command(index uint64, o *op, reached func()) error {
	if o.Kind == opSnapshot { // may make a checkpoint
		reached()
		return r.store.snapshotApply(index, o)
	}
	r.store.gate.RLock()
	defer r.store.gate.RUnlock()
	if err := r.store.queueApply(index, o); err != nil {
		return err
	}
	reached()
	return nil
}

// do does an operation now.
func (r *replica) do(at Position, o *op, record []byte) error {
	if o == nil {
		r.reached(at, record)
		return nil
	}
	if o.ofAll() {
		return r.command(at.Index, o, func() { r.reached(at, record) })
	}
	m, err := r.store.replicaBox(o.Mailbox)
	if err != nil {
		return err
	}
	if !m.ready.Load() { // a checkpoint holds loading while it writes
		m.loading.Lock()
		err = m.load(nil)
		m.loading.Unlock()
		if err != nil {
			return err
		}
	}
	r.store.gate.RLock() // a checkpoint has the state and the position of one moment
	defer r.store.gate.RUnlock()
	if o.movesFolders() {
		m.layout.Lock()
		defer m.layout.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.land(at.Index, m.next(o, record))
	for _, odd := range m.state.odd {
		r.store.note(func(rep *Report) { rep.Odd++ })
		m.log.Error("operation does not fit the mailbox", "what", odd.text)
	}
	m.state.odd = nil
	if len(m.queue) == 0 {
		m.settleForesight()
	}
	r.reached(at, record)
	return nil
}

func (r *replica) reached(at Position, record []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied = at
	r.bytes += int64(len(record))
}

// movesFolders reports whether an operation changes the directories of folders.
func (o *op) movesFolders() bool {
	return o.Kind == opCreate || o.Kind == opRename || o.Kind == opDelete
}

// next gives the proposal of an operation that comes: the first in the queue when it is ours. When it is not, those in
// the queue have been overtaken, and will not come.
func (m *Mailbox) next(o *op, record []byte) *proposal {
	if len(m.queue) == 0 {
		return &proposal{op: o}
	}
	p := m.queue[0]
	if !bytes.Equal(p.record, record) {
		m.queue = nil
		return &proposal{op: o}
	}
	m.queue[0] = nil
	m.queue = m.queue[1:]
	return p
}

// settleForesight makes what there will be what there is. The caller holds mu.
func (m *Mailbox) settleForesight() {
	m.promised = m.state.usage
	clear(m.txAhead)
	for _, f := range m.byGUID {
		clear(f.ahead)
		f.aheadNext, f.aheadKeywords = f.next, f.keywords
	}
}
