package store

import (
	"fmt"
	"slices"

	"anycastle/mailroles/maildir"
)

// proposal is an operation on its way into the log.
type proposal struct {
	op      *op
	record  []byte // of a replicated LUN
	wait    func() (uint64, error)
	applied bool // guarded by the mailbox's mu
}

// result is where the last of some operations is, for what must be proven of a replicated LUN.
type result struct {
	index  uint64
	bodies []Body
}

// operate proposes the operation that build makes, under the mailbox's lock, and returns when it is in the log and
// done. build sees what there will be when the operations before it are done; it gives nil when there is nothing to do.
// relief says that the operation may use the room that is kept for those that free space.
func (m *Mailbox) operate(relief bool, build func() (*op, error)) error {
	return m.store.during(func() (result, error) {
		m.order.RLock()
		defer m.order.RUnlock()
		return m.propel(relief, build)
	})
}

// operateAlone is operate for what changes folders: no other operation of the mailbox is under way meanwhile.
func (m *Mailbox) operateAlone(relief bool, build func() (*op, error)) error {
	return m.store.during(func() (result, error) {
		m.order.Lock()
		defer m.order.Unlock()
		return m.propel(relief, build)
	})
}

// during runs what proposes operations, while the store takes them.
func (s *Store) during(do func() (result, error)) error {
	if s.replica != nil {
		return s.replica.during(do)
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	_, err := do()
	return err
}

// carry is operate within during.
func (m *Mailbox) carry(relief bool, build func() (*op, error)) error {
	_, err := m.propel(relief, build)
	return err
}

func (m *Mailbox) propel(relief bool, build func() (*op, error)) (result, error) {
	m.mu.Lock()
	o, err := build()
	if err == nil && o == nil && m.store.replica != nil {
		p := m.latest()
		m.mu.Unlock()
		return m.store.replica.await(p) // what there was nothing to do for may be on its way
	}
	if err != nil || o == nil {
		m.mu.Unlock()
		return result{}, err
	}
	p, err := m.propose(o, relief)
	m.mu.Unlock()
	if err != nil {
		return result{}, err
	}
	return m.finish(p)
}

// propose puts an operation into the log's order, and foresees what it does. The caller holds mu.
func (m *Mailbox) propose(o *op, relief bool) (*proposal, error) {
	o.Mailbox, o.At = m.address, m.store.now().Unix()
	record, err := o.encode()
	if err != nil {
		return nil, err
	}
	if err := o.check(); err != nil { // else the log would hold what cannot be read back
		return nil, fmt.Errorf("%w: %w", errOp, err)
	}
	p := &proposal{op: o}
	if m.store.replica != nil {
		p.record = record
		p.wait, err = m.store.replica.append(record)
	} else {
		p.wait, err = m.store.ops.Append(record, relief && o.relieves())
	}
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", o.Kind, err)
	}
	m.queue = append(m.queue, p)
	m.foresee(p)
	return p, nil
}

// finish waits until the log has an operation, and sees to it that it and those before it are done, in order. After an
// error nobody knows whether the log has it: the store must be opened again.
func (m *Mailbox) finish(p *proposal) (result, error) {
	if m.store.replica != nil {
		return m.store.replica.await(p)
	}
	_, err := p.wait()
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
	}
	for err == nil && !p.applied {
		first := m.queue[0]
		var index uint64
		if index, err = first.wait(); err == nil { // at once, as it came before p
			m.queue[0] = nil // else its batch would stay in memory
			m.queue = m.queue[1:]
			m.land(index, first)
		}
	}
	if err != nil {
		m.store.fail(err)
		return result{}, fmt.Errorf("log %s: %w", p.op.Kind, err)
	}
	return result{}, nil
}

// land does an operation that the log has.
func (m *Mailbox) land(index uint64, p *proposal) {
	out := m.state.apply(index, p.op)
	p.applied, m.dirty = true, true
	if p.op.Kind == opCreate {
		m.open(out.folder)
	}
	if err := m.place(p.op, out); err != nil {
		m.behind = true
		m.log.Error("operation is in the log, but not in the tree yet", "kind", p.op.Kind, "err", err)
	}
	m.rename(p.op)
	m.forget(p)
	if f := m.byGUID[p.op.Folder]; f != nil {
		f.stale = true
		if p.op.Kind == opDelete {
			m.close(f)
		}
		if out.to == nil {
			f.tell(out.put, out.gone)
		} else {
			f.tell(out.gone)
		}
	}
	if f := m.byGUID[p.op.To]; f != nil {
		f.stale = true
		f.tell(out.put)
	}
}

// foresee notes what an operation will do.
func (m *Mailbox) foresee(p *proposal) {
	o := p.op
	target := m.byGUID[o.Folder]
	if o.To != "" {
		target = m.byGUID[o.To]
	}
	for _, a := range o.Arrivals {
		target.aheadNext = max(target.aheadNext, a.UID+1)
		target.expect(a.Keywords)
		target.foresee(p, a.UID, &Message{
			UID: a.UID, Size: a.Size, Wide: a.Wide, base: a.Base, Sum: a.Sum, Marks: Marks{Flags: a.Flags, Keywords: a.Keywords},
		})
		m.promised.add(a.Size, 1)
	}
	for _, k := range o.Markings {
		target.expect(k.Keywords)
		for _, uid := range k.UIDs {
			if now, ok := target.foreseen(uid); ok {
				next := *now
				next.Marks = Marks{Flags: k.Flags, Keywords: k.Keywords}
				target.foresee(p, uid, &next)
			}
		}
	}
	for _, e := range o.Gone {
		f := m.byGUID[o.Folder]
		if now, ok := f.foreseen(e.UID); ok {
			m.promised.add(-now.Size, -1)
		}
		f.foresee(p, e.UID, nil)
	}
	if _, tx, ok := o.delivery(); ok {
		m.txAhead[tx] = p
	}
}

// relieves reports whether an operation may help to free space. Marks do when they are the first step of a removal;
// others would use up the room that is kept for that.
func (o *op) relieves() bool {
	deleted := func(k marking) bool { return k.Flags&maildir.Deleted != 0 }
	return o.Kind != opSubscribe && (o.Kind != opFlags || slices.ContainsFunc(o.Markings, deleted))
}

// expect notes keywords that the folder will know. Who proposed them has seen to it that there is room.
func (f *Folder) expect(keywords []string) {
	if list, err := learn(f.aheadKeywords, keywords); err == nil {
		f.aheadKeywords = list
	}
}

func (f *Folder) foresee(p *proposal, uid uint32, m *Message) { f.ahead[uid] = foresight{m, p} }

// forget drops what an operation was foreseen to do, now that it is done.
func (m *Mailbox) forget(p *proposal) {
	o := p.op
	drop := func(f *Folder, uid uint32) {
		if f != nil && f.ahead[uid].by == p {
			delete(f.ahead, uid)
		}
	}
	target := m.byGUID[o.Folder]
	if o.To != "" {
		target = m.byGUID[o.To]
	}
	for _, a := range o.Arrivals {
		drop(target, a.UID)
	}
	for _, k := range o.Markings {
		for _, uid := range k.UIDs {
			drop(target, uid)
		}
	}
	for _, e := range o.Gone {
		drop(m.byGUID[o.Folder], e.UID)
	}
	if _, tx, ok := o.delivery(); ok && m.txAhead[tx] == p {
		delete(m.txAhead, tx)
	}
}

// delivery gives the transaction id of a delivery that has one.
func (o *op) delivery() (at int64, tx string, ok bool) {
	if o.Kind != opDeliver || len(o.Arrivals) == 0 {
		return 0, "", false
	}
	t, tx, ok := maildir.Delivered(o.Arrivals[0].Base)
	return t.Unix(), tx, ok
}
