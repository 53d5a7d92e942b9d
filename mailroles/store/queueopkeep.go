package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// QueueKeeper keeps the queue of a replicated LUN, as package queue wants it: each change is an operation of the LUN's log,
// and bodies travel like those of messages. It is for the active store: a new queue is opened on it each time that this
// replica leads.
type QueueKeeper struct{ s *Store }

// QueueKeeper gives what keeps the LUN's queue, which must be a replicated one.
func (s *Store) QueueKeeper() *QueueKeeper { return &QueueKeeper{s} }

const (
	queueLoaders   = 8    // envelopes that are read at a time
	forgetAtOnce   = 1000 // ids in one operation
	queueFetchTime = 3 * time.Second
)

// Load implements queue.Keeper. What is of no use stays where it is: another replica may have it whole.
func (k *QueueKeeper) Load(entry func(id string, text []byte, body int64) error, done func(id string, text []byte, since time.Time) bool) (aside int, err error) {
	live, over, err := k.list()
	if err != nil {
		return 0, err
	}
	var bad atomic.Int64
	var g errgroup.Group
	g.SetLimit(queueLoaders)
	for id, e := range live {
		g.Go(func() error {
			text, err := k.s.queueText(queueEntryDir, id, &e)
			if err == nil {
				err = entry(id, text, e.size) // a body that is not here will be fetched
			}
			if err != nil {
				bad.Add(1)
				k.s.log.Error("envelope in the queue is of no use", "id", id, "err", err)
			}
			return nil
		})
	}
	err = g.Wait()
	var late []string
	for id, e := range over {
		text, rerr := k.s.queueText(queueDoneDir, id, &e)
		if rerr != nil || !done(id, text, time.Unix(e.since, 0)) {
			late = append(late, id)
		}
	}
	if ferr := k.Forget(late...); ferr != nil {
		k.s.log.Warn("forget transactions", "count", len(late), "err", ferr)
	}
	return int(bad.Load()), err
}

// list gives what there is as it is now.
func (k *QueueKeeper) list() (live, over map[string]queued, err error) {
	q := &k.s.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := k.s.queueLoad(); err != nil {
		return nil, nil, err
	}
	live, over = map[string]queued{}, map[string]queued{}
	for id, e := range q.entries {
		if e.since != 0 {
			over[id] = *e
		} else {
			live[id] = *e
		}
	}
	return live, over, nil
}

// queueText gives an envelope.
func (s *Store) queueText(dir, id string, e *queued) ([]byte, error) {
	if e.text != nil {
		return e.text, nil
	}
	return os.ReadFile(s.files.at(filepath.Join(dir, id)))
}

// PutBody implements queue.Keeper. The body is on its way to the other replicas when it returns.
func (k *QueueKeeper) PutBody(id string, body io.Reader) error {
	s := k.s
	if !isQueueID(id) {
		return fmt.Errorf("queue entry %q", id)
	}
	if err := s.replica.admit(); err != nil {
		return err
	}
	path := filepath.Join(incomingDir, id)
	f, err := s.files.create(path)
	if err != nil {
		return fmt.Errorf("write body: %w", err)
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), body)
	if err == nil {
		s.journal.Push(queueBodyOf(id, hex.EncodeToString(hash.Sum(nil)), n))
		err = s.files.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write body: %w", err), s.files.remove(path))
	}
	s.bodies.Add(1) // Add makes its name durable
	return nil
}

// Drop implements queue.Keeper.
func (k *QueueKeeper) Drop(id string) error { return k.s.files.remove(filepath.Join(incomingDir, id)) }

// Add implements queue.Keeper. Without an error the entry and its body are where a message of a mailbox would have to be.
func (k *QueueKeeper) Add(id string, text []byte, sum string, size int64) (kept bool, err error) {
	r := k.s.replica
	r.leads.RLock()
	defer r.leads.RUnlock()
	if err = r.admit(); err != nil {
		return false, errors.Join(err, k.Drop(id))
	}
	wait, err := k.propose(&queueOp{Do: queueAdd, IDs: []string{id}, Envelope: string(text), Sum: sum, Size: size})
	if err != nil {
		return false, errors.Join(err, k.Drop(id))
	}
	if err := r.syncNames(); err != nil { // while the others are told of the operation
		k.s.fail(err)
		return false, err
	}
	index, err := wait()
	if err != nil { // nobody knows yet: the body stays
		return false, fmt.Errorf("log queue entry: %w", err)
	}
	return true, k.s.journal.Prove(index, []Body{queueBodyOf(id, sum, size)})
}

// propose puts an operation into the order of the log. The caller holds leads.
func (k *QueueKeeper) propose(q *queueOp) (wait func() (uint64, error), err error) {
	if !k.s.replica.leader {
		return nil, ErrPassive
	}
	if err := k.s.Err(); err != nil {
		return nil, err
	}
	o := &op{Kind: opQueue, At: k.s.now().Unix(), Queue: q}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", errOp, err)
	}
	record, err := o.encode()
	if err != nil {
		return nil, err
	}
	if wait, err = k.s.journal.Append(record); err != nil {
		return nil, fmt.Errorf("log %s in the queue: %w", q.Do, err)
	}
	return wait, nil
}

// do has an operation done that nobody outside is told of: a quorum has it then, whatever is the matter with the other site.
func (k *QueueKeeper) do(q *queueOp) error {
	k.s.replica.leads.RLock()
	defer k.s.replica.leads.RUnlock()
	wait, err := k.propose(q)
	if err == nil {
		_, err = wait()
	}
	return err
}

// Change implements queue.Keeper.
func (k *QueueKeeper) Change(id string, text []byte) error {
	o := &queueOp{Do: queueChange, IDs: []string{id}, Envelope: string(text)}
	if e, ok := k.s.queueGet(id); ok { // for replicas that do not know them, of an entry that an old version queued
		o.Sum, o.Size = e.sum, e.size
	}
	return k.do(o)
}

// Finish implements queue.Keeper.
func (k *QueueKeeper) Finish(id string, remember bool) error {
	return k.do(&queueOp{Do: queueFinish, IDs: []string{id}, Remember: remember})
}

// Sync implements queue.Keeper: the log has it already.
func (k *QueueKeeper) Sync() error { return nil }

// Forget implements queue.Keeper.
func (k *QueueKeeper) Forget(ids ...string) error {
	for part := range slices.Chunk(ids, forgetAtOnce) {
		if err := k.do(&queueOp{Do: queueForget, IDs: part}); err != nil {
			return err
		}
	}
	return nil
}

// SetAside implements queue.Keeper.
func (k *QueueKeeper) SetAside(id string, why error) error {
	return k.do(&queueOp{Do: queueAside, IDs: []string{id}, Why: why.Error()})
}

// Prove implements queue.Keeper.
func (k *QueueKeeper) Prove(ids ...string) error {
	var bodies []Body
	var index uint64
	for _, id := range ids {
		e, ok := k.s.queueGet(id)
		if ok && e.since == 0 && e.sum != "" {
			bodies = append(bodies, queueBodyOf(id, e.sum, e.size))
		}
		if ok && e.index != 0 {
			index = max(index, e.index)
		} else { // it was no later than this
			index = max(index, k.s.queueChanged())
		}
	}
	r := k.s.replica
	r.leads.RLock() // until it is proven
	defer r.leads.RUnlock()
	if !r.leader {
		return ErrPassive
	}
	return k.s.journal.Prove(index, bodies)
}

// Serving implements queue.Keeper.
func (k *QueueKeeper) Serving() error { return k.s.journal.Serving() }

// OpenBody implements queue.Keeper. One that is not here, or rotten, is fetched from another replica.
func (k *QueueKeeper) OpenBody(ctx context.Context, id string, size int64) (*os.File, error) {
	f, err := k.s.queueOpen(id)
	if err == nil || !errors.Is(err, ErrMissing) {
		return f, err
	}
	e, ok := k.s.queueGet(id)
	if !ok || e.since != 0 || e.sum == "" || e.size != size {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, queueFetchTime)
	defer cancel()
	if ferr := k.s.journal.Fetch(ctx, queueBodyOf(id, e.sum, e.size)); ferr != nil {
		return nil, fmt.Errorf("%w: %w", err, ferr)
	}
	return k.s.queueOpen(id)
}

// queueGet gives an entry as it is now.
func (s *Store) queueGet(id string) (queued, bool) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if err := s.queueLoad(); err != nil {
		s.log.Error("read queue", "err", err)
	}
	if e, ok := s.queue.entries[id]; ok {
		return *e, true
	}
	return queued{}, false
}

func (s *Store) queueChanged() uint64 {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return s.queue.changed
}
