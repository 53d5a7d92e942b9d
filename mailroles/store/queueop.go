package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Folders of a LUN's queue. They are those of a queue in a LUN without replicas, which can be read by the same program.
var (
	queueDir      = ".queue"
	queueEntryDir = filepath.Join(queueDir, "entry")
	queueDoneDir  = filepath.Join(queueDir, "done")
	queueBodyDir  = filepath.Join(queueDir, "body")
	queueAsideDir = filepath.Join(queueDir, "set-aside")

	// queueChangedFile has the index of the last operation, as of the last checkpoint.
	queueChangedFile = filepath.Join(queueDir, "changed")
)

// queueDeed is what an operation does to entries of the queue.
type queueDeed string

const (
	queueAdd    queueDeed = "add"
	queueChange queueDeed = "change" // an envelope
	queueFinish queueDeed = "finish"
	queueForget queueDeed = "forget" // envelopes of entries that are done
	queueAside  queueDeed = "aside"
)

// queueOp is an operation of the queue. An envelope is a text to the store: a line with the SHA-256 of the rest, and JSON.
type queueOp struct {
	Do       queueDeed `json:"do"`
	IDs      []string  `json:"ids"`                // one, except to forget
	Envelope string    `json:"envelope,omitempty"` // of add and change
	Sum      string    `json:"sum,omitempty"`      // of the body, where it is known
	Size     int64     `json:"size,omitempty"`     // of the body
	Remember bool      `json:"remember,omitempty"` // finish keeps the envelope
	Why      string    `json:"why,omitempty"`      // it is set aside
}

// maxEnvelope bounds an envelope, in bytes.
const maxEnvelope = 1 << 20

// check refuses what would lead out of the queue's folders.
func (q *queueOp) check() error {
	for _, id := range q.IDs {
		if !isQueueID(id) {
			return fmt.Errorf("queue entry %q", id)
		}
	}
	if len(q.Envelope) > maxEnvelope || q.Size < 0 || q.Sum != "" && !isSum(q.Sum) {
		return errors.New("queue entry has a wrong body or envelope")
	}
	switch q.Do {
	case queueAdd, queueChange:
		if len(q.IDs) != 1 || q.Envelope == "" || q.Do == queueAdd && q.Sum == "" {
			return errors.New("queue entry lacks something")
		}
	case queueFinish, queueAside:
		if len(q.IDs) != 1 {
			return errors.New("no queue entry")
		}
	case queueForget:
	default:
		return fmt.Errorf("unknown deed %q", q.Do)
	}
	return nil
}

// isQueueID reports whether s can name an entry: when it came, in microseconds and hexadecimal, and some letters.
func isQueueID(s string) bool {
	if len(s) != 22 || !isHex(s[:14]) {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// queueState is what the queue holds. The tree has it too, except for what is behind.
type queueState struct {
	mu      sync.Mutex
	loaded  bool // from the tree
	folders bool // there are all
	entries map[string]*queued
	leaving map[string]*queued // no longer entries, and to be put aside
	behind  map[string]bool    // ids whose files are not as entries and leaving say
	changed uint64             // index of the last operation
	saved   uint64             // changed, as the tree has it
	lost    *tally             // operations of entries whose bodies are not here, by id; nil: not counted yet
}

// queued is an entry of the queue, or the memory of one that is done.
type queued struct {
	since   int64  // Unix time at which it was done; 0: it is not
	aside   string // why it is put aside
	text    []byte // envelope that is not in the tree yet; nil: the tree has it
	digest  Sum    // of the envelope
	damaged bool   // the tree's envelope cannot be read
	sum     string // of the body; empty: not known
	size    int64
	here    bool   // the body is
	index   uint64 // of the operation that added it; 0: before the last start
}

// queueApply does an operation of the queue. Operations since the last checkpoint come again after a crash, in order, and
// find the tree as it was left: each says all that it makes of an entry, so the last one decides.
func (s *Store) queueApply(index uint64, o *op) error {
	q := &s.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := s.queueLoad(); err != nil {
		return err
	}
	q.changed = index
	for _, id := range o.Queue.IDs {
		if q.apply(index, id, o) {
			s.queueFitLater(id)
		}
		q.recount(id)
	}
	return nil
}

// queueFitLater makes the files of an entry fit, now or, when the disk is full, at the next checkpoint. The caller holds mu.
func (s *Store) queueFitLater(id string) {
	delete(s.queue.behind, id)
	if err := s.queueFit(id); err != nil {
		s.queue.behind[id] = true
		if e := s.queue.entries[id]; e != nil {
			_, e.here = s.queueFind(id, e) // it may be here, and not yet in its place
		}
		s.log.Error("operation of the queue is in the log, but not in the tree yet", "id", id, "err", err)
	}
}

// apply changes the memory of one entry. It is false when there is nothing to be done.
func (q *queueState) apply(index uint64, id string, o *op) bool {
	e, do := q.entries[id], o.Queue
	switch {
	case do.Do == queueAdd:
		e = &queued{index: index, sum: do.Sum, size: do.Size}
		q.entries[id] = e
		delete(q.leaving, id)
		e.put(do.Envelope)
	case e == nil: // it went by an operation that came first, but perhaps not all of it
		return do.Do == queueFinish
	case do.Do == queueForget:
		if e.since == 0 {
			return false
		}
		delete(q.entries, id)
	case e.since != 0 && do.Do != queueFinish: // a change of before its end, which the tree had already
		return false
	case do.Do == queueChange:
		e.put(do.Envelope)
		if e.sum == "" {
			e.sum, e.size = do.Sum, do.Size
		}
	case do.Do == queueFinish && do.Remember:
		e.since = max(o.At, 1)
	case do.Do == queueFinish:
		delete(q.entries, id)
	case do.Do == queueAside:
		e.aside, q.leaving[id] = do.Why, e
		delete(q.entries, id)
	}
	return true
}

func (e *queued) put(text string) {
	e.text, e.digest, e.damaged = []byte(text), sha256.Sum256([]byte(text)), false
}

// queueFit makes the files of an entry as the memory has it. Doing it twice leads to the same. The caller holds mu.
func (s *Store) queueFit(id string) error {
	if err := s.queueFolders(); err != nil {
		return err
	}
	e, leaving := s.queue.entries[id], s.queue.leaving[id]
	switch {
	case leaving != nil:
		return s.queuePutAway(id, leaving)
	case e == nil:
		return s.queueRemove(id, queueBodyDir, incomingDir, queueEntryDir, queueDoneDir)
	case e.since == 0:
		if err := s.queueWrite(queueEntryDir, id, e); err != nil {
			return err
		}
		return s.queuePlace(id, e)
	}
	var err error
	if e.text != nil {
		err = s.queueWrite(queueDoneDir, id, e)
	} else if err = s.files.rename(filepath.Join(queueEntryDir, id), filepath.Join(queueDoneDir, id)); errors.Is(err, os.ErrNotExist) {
		if _, err = os.Lstat(s.files.at(filepath.Join(queueDoneDir, id))); errors.Is(err, os.ErrNotExist) {
			s.log.Error("envelope in the queue is lost", "id", id)
			delete(s.queue.entries, id)
			return s.queueRemove(id, queueBodyDir, incomingDir)
		}
	}
	if err != nil {
		return err
	}
	since := time.Unix(e.since, 0)
	if err := os.Chtimes(s.files.at(filepath.Join(queueDoneDir, id)), since, since); err != nil {
		return err
	}
	e.here = false
	return s.queueRemove(id, queueEntryDir, queueBodyDir, incomingDir)
}

// queueFolders makes the folders of the queue that there are not. The caller holds mu.
func (s *Store) queueFolders() error {
	if s.queue.folders {
		return nil
	}
	for _, dir := range []string{queueDir, queueEntryDir, queueDoneDir, queueBodyDir, queueAsideDir} {
		if err := s.files.mkdir(dir); err != nil {
			return fmt.Errorf("make the queue's folders: %w", err)
		}
	}
	s.queue.folders = true
	return nil
}

// queueWrite writes an envelope that the tree does not have, without waiting for the disk: the log has it.
func (s *Store) queueWrite(dir, id string, e *queued) error {
	if e.text == nil {
		return nil
	}
	path := filepath.Join(dir, id)
	if err := s.files.write(path+".new", e.text); err != nil {
		return err
	}
	if err := s.files.rename(path+".new", path); err != nil {
		return err
	}
	e.text = nil
	return nil
}

// queuePlace puts a body that came to where the queue has it. It is no error when it has not come.
func (s *Store) queuePlace(id string, e *queued) error {
	to := filepath.Join(queueBodyDir, id)
	err := s.files.rename(filepath.Join(incomingDir, id), to)
	if errors.Is(err, os.ErrNotExist) {
		if _, err = os.Lstat(s.files.at(to)); errors.Is(err, os.ErrNotExist) {
			e.here = false
			return nil
		}
	}
	if err == nil {
		e.here = true
	}
	return err
}

// queueRemove removes an entry's files in an order in which a crash leaves what finds the rest.
func (s *Store) queueRemove(id string, dirs ...string) error {
	for _, dir := range dirs {
		if err := s.files.remove(filepath.Join(dir, id)); err != nil {
			return err
		}
	}
	return nil
}

// queuePutAway moves the files of an entry to where a person may look at them.
func (s *Store) queuePutAway(id string, e *queued) error {
	if err := errors.Join(s.queueWrite(queueEntryDir, id, e), s.queuePlace(id, e)); err != nil {
		return err
	}
	for _, move := range [][2]string{{queueBodyDir, ".body"}, {queueEntryDir, ".entry"}} { // the one by which it is found last
		err := s.files.rename(filepath.Join(move[0], id), filepath.Join(queueAsideDir, id+move[1]))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it is there already
			return err
		}
	}
	s.log.Error("an entry of the queue is set aside", "id", id, "now", filepath.Join(queueAsideDir, id), "err", e.aside)
	delete(s.queue.leaving, id)
	return nil
}

// queueSave makes the tree fit where it is behind, for a checkpoint that makes it durable afterwards. No operation runs
// meanwhile.
func (s *Store) queueSave() error {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	for id := range s.queue.behind {
		err := s.queueFit(id)
		s.queue.recount(id)
		if err != nil {
			return fmt.Errorf("write queue: %w", err)
		}
		delete(s.queue.behind, id)
	}
	if s.queue.saved == s.queue.changed {
		return nil
	}
	text := strconv.AppendUint(nil, s.queue.changed, 10)
	err := s.files.write(queueChangedFile+".new", append(text, '\n'))
	if err == nil {
		err = s.files.rename(queueChangedFile+".new", queueChangedFile)
	}
	if err != nil {
		return fmt.Errorf("write queue: %w", err)
	}
	s.queue.saved = s.queue.changed
	return nil
}
