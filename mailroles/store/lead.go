package store

import (
	"fmt"
	"sync"

	"anycastle/mailroles/maildir"
)

// Lead has operations proposed from now on: all that were committed are done.
func (s *Store) Lead() error {
	r := s.replica
	r.applying.Lock()
	err := r.settle()
	r.applying.Unlock()
	if err != nil {
		return err
	}
	r.leads.Lock()
	defer r.leads.Unlock()
	r.drop()
	r.leader = true
	return nil
}

// Follow ends that operations are proposed. It returns when none is under way and what they would have led to is
// forgotten; the journal sees to it that they end.
func (s *Store) Follow() {
	r := s.replica
	r.leads.Lock()
	defer r.leads.Unlock()
	r.leader = false
	r.drop()
}

// drop forgets what is under way.
func (r *replica) drop() {
	for _, m := range r.store.loadedBoxes() {
		m.mu.Lock()
		m.queue = nil
		if m.state != nil {
			m.settleForesight()
		}
		m.mu.Unlock()
	}
}

// admit reports why no operation may be proposed.
func (r *replica) admit() error {
	if err := r.store.Err(); err != nil {
		return err
	}
	return r.store.journal.Admit()
}

// during is Store.during. What do did is proven when no lock of a mailbox is held any more.
func (r *replica) during(do func() (result, error)) error {
	r.leads.RLock()
	defer r.leads.RUnlock()
	if !r.leader {
		return ErrPassive
	}
	if err := r.admit(); err != nil {
		return err
	}
	last, err := do()
	if err != nil {
		return err
	}
	err = r.store.journal.Prove(last.index, last.bodies)
	r.remember(last.bodies, err == nil)
	return err
}

// remember notes which bodies have been proven to be at other replicas, and which may be here only.
func (r *replica) remember(list []Body, proven bool) {
	if s, ok := r.store.journal.(Surveyor); ok && len(list) > 0 && s.Exposed() {
		proven = false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range list {
		if proven {
			r.proven.add(b.Name)
			delete(r.doubted.has, b.Name)
		} else {
			r.doubted.add(b.Name)
		}
	}
}

// proofs gives the bodies of messages that are copied, of those that may not be at other replicas: who is told of the
// copy must not lose it with them. What replicas that led before have proven is not known: then it counts whether the other
// site has all up to the last operation on the message.
func (m *Mailbox) proofs(list []*Message) []Body {
	r := m.store.replica
	elsewhere := ^uint64(0)
	if s, ok := m.store.journal.(Surveyor); ok {
		elsewhere = s.Elsewhere()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var some []Body
	for _, msg := range list {
		b := m.body(msg)
		unknown := msg.Modseq > elsewhere && !r.proven.has[b.Name]
		if unknown || r.doubted.has[b.Name] || r.lacks.byName[b.key()] != nil {
			some = append(some, b)
		}
	}
	return some
}

// offer sends the bodies of messages that are copied once more: a replica that has them says so.
func (r *replica) offer(o *op) {
	for _, b := range o.proofs {
		r.store.journal.Push(b)
	}
}

// append proposes a record. The result may be called by many at once.
func (r *replica) append(record []byte) (wait func() (uint64, error), err error) {
	if wait, err = r.store.journal.Append(record); err != nil {
		return nil, err
	}
	return sync.OnceValues(wait), nil
}

// await waits until an operation is done.
func (r *replica) await(p *proposal) (result, error) {
	bodies := p.op.bodies()
	r.offer(p.op)
	if len(bodies) > 0 {
		if err := r.syncNames(); err != nil { // while the others are told of the operation
			r.store.fail(err)
			return result{}, err
		}
	}
	index, err := p.wait()
	if err != nil {
		return result{}, fmt.Errorf("log %s: %w", p.op.Kind, err)
	}
	return result{index: index, bodies: bodies}, nil
}

// syncNames makes the names of bodies in the incoming directory durable, for all that wait for that.
func (r *replica) syncNames() error {
	r.bodiesSync.Lock()
	defer r.bodiesSync.Unlock()
	return r.store.syncBodies()
}

// bodies gives what an operation brings that no replica had before, or that may be at one only.
func (o *op) bodies() []Body {
	if o.Kind == opCopy || o.Kind == opMove {
		return o.proofs
	}
	var list []Body
	for _, a := range o.Arrivals {
		list = append(list, Body{
			Mailbox: o.Mailbox, Name: maildir.Unique(a.Base), Sum: a.Sum, Size: a.Size, Date: a.Date,
		})
	}
	return list
}

// latest gives the last operation of the mailbox that is under way, or one that stands for all that are done. The caller
// holds mu.
func (m *Mailbox) latest() *proposal {
	if n := len(m.queue); n > 0 {
		return m.queue[n-1]
	}
	index := m.store.Applied().Index
	return &proposal{op: &op{}, wait: func() (uint64, error) { return index, nil }}
}

// propose carries out an operation of no mailbox, with the bodies that it brings.
func (r *replica) propose(o *op, bodies []Body) (index uint64, err error) {
	err = r.during(func() (result, error) {
		o.At = r.store.now().Unix()
		record, err := o.encode()
		if err != nil {
			return result{}, err
		}
		if err := o.check(); err != nil {
			return result{}, fmt.Errorf("%w: %w", errOp, err)
		}
		p := &proposal{op: o}
		if p.wait, err = r.append(record); err != nil {
			return result{}, fmt.Errorf("log %s: %w", o.Kind, err)
		}
		if len(bodies) > 0 {
			if err := r.syncNames(); err != nil {
				r.store.fail(err)
				return result{}, err
			}
		}
		done, err := r.await(p)
		index, done.bodies = done.index, bodies
		return done, err
	})
	return index, err
}

// proveAgain waits until a delivery is proven that was made before.
func (m *Mailbox) proveAgain(tx string) error {
	if m.store.replica == nil {
		return nil
	}
	return m.store.during(func() (result, error) {
		m.mu.Lock()
		p := m.latest()
		m.mu.Unlock()
		last, err := m.store.replica.await(p)
		if err != nil {
			return last, err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		last.bodies = m.delivered(tx)
		return last, nil
	})
}

// delivered gives the body of a delivery, while its message is there or another that has been made of it.
func (m *Mailbox) delivered(tx string) []Body {
	sum := m.state.recent.at[tx].sum
	for _, f := range m.byGUID {
		for i := len(f.messages) - 1; i >= 0; i-- {
			if msg := f.messages[i]; sum != "" && msg.Sum == sum {
				return []Body{m.body(msg)}
			}
		}
	}
	return nil
}
