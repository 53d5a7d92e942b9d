package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ErrNotKept says that the log does not reach back to where it would have to.
var ErrNotKept = errors.New("store: the log does not have all operations since the snapshot any more")

// Point is a moment to go back to: exactly one of these is set.
type Point struct {
	Snapshot string    `json:"snapshot,omitzero"` // id
	Time     time.Time `json:"time,omitzero"`
	Index    uint64    `json:"index,omitzero"` // of the last operation that counts
}

func (p Point) check() error {
	n := 0
	for _, set := range []bool{p.Snapshot != "", !p.Time.IsZero(), p.Index > 0} {
		if set {
			n++
		}
	}
	if n != 1 {
		return errors.New("say one of a snapshot, a time and an operation")
	}
	return nil
}

// past is what a mailbox held at some moment.
type past struct {
	snapshot LUNSnapshot // the one before; without an id: the LUN's beginning
	index    uint64      // of the last operation that was looked at
	state    *state      // files of its messages are below the snapshot's directory
}

// past gives a mailbox as it was: from a snapshot, and from the operations of the log after it.
func (s *Store) past(mailbox string, p Point) (*past, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	snap, ok := s.snapshotBefore(p)
	if !ok && p.Snapshot != "" {
		return nil, fmt.Errorf("%w: %s", ErrNoSnapshot, p.Snapshot)
	}
	was := &past{snapshot: snap, index: snap.Index, state: newState()}
	if ok {
		if err := s.readManifest(was, mailbox); err != nil {
			return nil, err
		}
	}
	if p.Snapshot != "" || p.Index > 0 && p.Index == snap.Index {
		return was, nil
	}
	if err := s.goOn(was, mailbox, p); err != nil {
		return nil, fmt.Errorf("go on from operation %d: %w", snap.Index, err)
	}
	return was, nil
}

// snapshotBefore finds the snapshot that a point names, or the last that is not after it.
func (s *Store) snapshotBefore(p Point) (best LUNSnapshot, ok bool) {
	for _, l := range s.Snapshots() {
		switch {
		case p.Snapshot != "" && l.ID == p.Snapshot, !p.Time.IsZero() && !l.Time.After(p.Time), p.Index > 0 && l.Index <= p.Index:
			best, ok = l, true
		}
	}
	return best, ok
}

// readManifest reads what a snapshot has of a mailbox, which may be nothing.
func (s *Store) readManifest(was *past, mailbox string) error {
	if !plainName(mailbox) {
		return fmt.Errorf("mailbox %q is no plain name", mailbox)
	}
	text, err := os.ReadFile(s.files.at(filepath.Join(snapshotDir, was.snapshot.ID, mailbox, snapManifest)))
	if isGone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	st, head, err := parseSnapManifest(text)
	if err == nil && (head.Mailbox != mailbox || head.Index != was.snapshot.Index) {
		err = fmt.Errorf("%w: it is that of %s at operation %d", errSnapManifest, head.Mailbox, head.Index)
	}
	if err != nil {
		return fmt.Errorf("read snapshot %s: %w", was.snapshot.ID, err)
	}
	was.state = st
	return nil
}

// errPast ends a walk through the log.
var errPast = errors.New("past the point")

// goOn does the operations of the log up to a point.
func (s *Store) goOn(was *past, mailbox string, p Point) error {
	to := s.lastIndex()
	if p.Index > 0 {
		if p.Index > to {
			return fmt.Errorf("operation %d is not done yet, the last is %d", p.Index, to)
		}
		to = p.Index
	}
	name, err := json.Marshal(mailbox)
	if err != nil {
		return err
	}
	mark := append([]byte(`"mailbox":`), name...)
	err = s.walk(was.index+1, to, func(index uint64, record []byte) error {
		if !bytes.Contains(record, mark) { // most are of other mailboxes
			was.index = index
			return nil
		}
		o, err := decodeOp(record)
		switch {
		case err != nil:
			return err
		case !p.Time.IsZero() && o.At > p.Time.Unix():
			return errPast
		}
		was.index = index
		if o.Mailbox == mailbox {
			was.state.apply(index, o)
		}
		return nil
	})
	if errors.Is(err, errPast) {
		return nil
	}
	return err
}

// walk calls each for operations of the log.
func (s *Store) walk(from, to uint64, each func(index uint64, record []byte) error) error {
	if from > to {
		return nil
	}
	if s.records != nil {
		return s.records(from, to, each)
	}
	if s.ops == nil {
		return ErrNotKept
	}
	next := from
	err := s.ops.Replay(from, func(index uint64, record []byte) error {
		if index > to {
			return errPast
		}
		if index != next {
			return ErrNotKept
		}
		next++
		return each(index, record)
	})
	if errors.Is(err, errPast) && next > to {
		err = nil
	}
	if err == nil && next <= to {
		err = ErrNotKept
	}
	return err
}

// lastIndex gives the index of the last operation that was done.
func (s *Store) lastIndex() uint64 {
	if s.replica != nil {
		return s.Applied().Index
	}
	last, _ := s.ops.Size()
	return last
}

// current gives a mailbox as it is now. It changes nothing, so that a replica that is not the active store can be asked.
func (s *Store) current(address string) (*captured, error) {
	if s.replica != nil && !s.replica.isSettled() {
		return nil, errUnsettled
	}
	s.mu.Lock()
	m := s.boxes[address]
	s.mu.Unlock()
	if m == nil {
		return s.captureTree(address)
	}
	m.loading.Lock()
	defer m.loading.Unlock()
	if !m.loaded {
		return s.captureTree(address)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.capture(address), nil
}
