package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// queueMailbox stands for the queue in a Body.
const queueMailbox = ""

// queueOpen opens the body of an entry and reads it once, so that no rotten one is sent. It is ErrMissing when there is none
// that is right; a rotten file is put aside.
func (s *Store) queueOpen(id string) (*os.File, error) {
	f, path, want, err := s.queueFile(id)
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	if _, err = io.Copy(hash, f); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); err == nil && want != "" && sum != want {
		if err = s.quarantine(path, "is rotten, its sum is "+sum); err == nil {
			s.queueMiss(id)
			err = fmt.Errorf("%w: %s in the queue is rotten", ErrMissing, id)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// queueFile opens the body of an entry, and gives where it is and what its sum must be.
func (s *Store) queueFile(id string) (f *os.File, path, sum string, err error) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if err := s.queueLoad(); err != nil {
		return nil, "", "", err
	}
	e := s.queue.entries[id]
	if e == nil || e.since != 0 {
		return nil, "", "", fmt.Errorf("%w: %s in the queue", ErrNoMessage, id)
	}
	path, e.here = s.queueFind(id, e)
	s.queue.recount(id)
	if !e.here {
		return nil, "", "", fmt.Errorf("%w: %s in the queue", ErrMissing, id)
	}
	if f, err = os.Open(s.files.at(path)); err != nil {
		return nil, "", "", fmt.Errorf("open body: %w", err)
	}
	return f, path, e.sum, nil
}

// queueMiss notes that a body is not here.
func (s *Store) queueMiss(id string) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if e := s.queue.entries[id]; e != nil && e.since == 0 {
		_, e.here = s.queueFind(id, e)
		s.queue.recount(id)
	}
}

// queueBody gives the file of a body that the queue holds, below the LUN's directory.
func (s *Store) queueBody(b Body) (path string, ok bool) {
	e, ok := s.queueGet(b.Name)
	if !ok || e.since != 0 || e.sum != b.Sum {
		return "", false
	}
	return s.queueFind(b.Name, &e)
}

// queueHolds tells of the bodies in the incoming directory, by name, that the queue needs.
func (s *Store) queueHolds(name string) bool {
	e, ok := s.queueGet(name)
	return ok && e.since == 0
}

// queueArrived puts a body that came into the incoming directory to where it belongs, if an entry waits for it. That of an
// entry that is done goes.
func (s *Store) queueArrived(b Body) error {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	switch e := s.queue.entries[b.Name]; {
	case e == nil: // the operation is on its way
		return nil
	case e.since != 0:
		return s.files.remove(filepath.Join(incomingDir, b.Name))
	default:
		defer s.queue.recount(b.Name)
		return s.queuePlace(b.Name, e)
	}
}

// queueMissing gives bodies that are not here, how many there are, and the index of the first operation that has one. Of
// an entry whose envelope is damaged nobody knows.
func (s *Store) queueMissing(limit int) (list []Body, total int, first uint64) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if err := s.queueLoad(); err != nil {
		s.log.Error("read queue", "err", err)
		return nil, 1, 0 // or more
	}
	q := &s.queue
	if q.lost == nil {
		q.lost = &tally{}
		for id := range q.entries {
			q.recount(id)
		}
	}
	if total = len(q.lost.at); total == 0 || limit <= 0 {
		return nil, total, q.lost.first()
	}
	for _, id := range slices.Sorted(maps.Keys(q.lost.at)) {
		if e := q.entries[id]; len(list) < limit && e.sum != "" {
			list = append(list, queueBodyOf(id, e.sum, e.size))
		}
	}
	return list, total, q.lost.first()
}

// recount notes whether the body of an entry is here, after it may have come or gone. The caller holds mu.
func (q *queueState) recount(id string) {
	if q.lost == nil {
		return
	}
	if e := q.entries[id]; e != nil && e.since == 0 && (!e.here || e.damaged) {
		q.lost.set(id, e.index)
	} else {
		q.lost.drop(id)
	}
}

// queueIsThere reports whether there is a queue, or has been.
func (s *Store) queueIsThere() bool {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	err := s.queueLoad()
	return err != nil || s.queue.changed > 0 || len(s.queue.entries) > 0
}

// queueDigest gives a hash over the queue, and the index of the last operation that changed it.
func (s *Store) queueDigest() (changed uint64, sum Sum, err error) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if err := s.queueLoad(); err != nil {
		return 0, Sum{}, err
	}
	hash := sha256.New()
	for _, id := range slices.Sorted(maps.Keys(s.queue.entries)) {
		e := s.queue.entries[id]
		hash.Write([]byte(id)) // takes all it is given
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(e.since)))
		hash.Write(e.digest[:])
	}
	return s.queue.changed, Sum(hash.Sum(nil)), nil
}

// queueVerify reads the bodies of the queue. A rotten one becomes missing.
func (s *Store) queueVerify(ctx context.Context, rate func(n int) error) (checked, rotten int, err error) {
	s.queue.mu.Lock()
	ids := slices.Sorted(maps.Keys(s.queue.entries))
	s.queue.mu.Unlock()
	for _, id := range ids {
		e, ok := s.queueGet(id)
		if !ok || e.since != 0 || !e.here {
			continue
		}
		if err := errors.Join(ctx.Err(), rate(int(e.size))); err != nil {
			return checked, rotten, err
		}
		f, err := s.queueOpen(id)
		switch {
		case err == nil:
			err = f.Close()
		case errors.Is(err, ErrMissing):
			rotten++
			err = nil
		case errors.Is(err, ErrNoMessage): // done meanwhile
			continue
		}
		if err != nil {
			return checked, rotten, err
		}
		checked++
	}
	return checked, rotten, nil
}

// queueGiveUp puts an entry aside whose body no replica has.
func (s *Store) queueGiveUp(b Body) error {
	if e, ok := s.queueGet(b.Name); !ok || e.since != 0 || !strings.EqualFold(e.sum, b.Sum) {
		return fmt.Errorf("%w: %s in the queue", ErrNoMessage, b.Name)
	}
	return s.QueueKeeper().SetAside(b.Name, errors.New("no replica has its body"))
}
