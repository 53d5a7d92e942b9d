package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/mailroles/maildir"
)

// A checkpoint is due after that many operations, bytes of the log, or time.
const (
	checkpointOps   = 20_000
	checkpointBytes = 8 << 20
	checkpointTime  = time.Minute
)

var checkpointFile = filepath.Join(logDir, "checkpoint")

// checkpoint says up to where the tree has the operations of the log, durably.
type checkpoint struct {
	Index  uint64     `json:"index"`
	Time   time.Time  `json:"time"`
	Recent []recentTx `json:"recent,omitempty"` // deliveries whose messages are gone

	// Of a replicated LUN. Check tells whether the index and the chain are as they were written.
	Replicated bool   `json:"replicated,omitempty"`
	Chain      string `json:"chain,omitempty"` // hexadecimal
	Check      string `json:"check,omitempty"`

	chain Sum
}

// recentTx is a delivery of which no message's name tells.
type recentTx struct {
	Mailbox string `json:"mailbox"`
	Tx      string `json:"tx"`
	At      int64  `json:"at"`            // Unix time
	Sum     string `json:"sum,omitempty"` // SHA-256 of the body, in hexadecimal
}

func (s *Store) due() bool {
	last, size := s.size()
	s.mu.Lock()
	n := last - s.saved.Index
	s.mu.Unlock()
	s.saving.Lock()
	defer s.saving.Unlock()
	if n == 0 {
		return false
	}
	return n >= checkpointOps || size >= checkpointBytes || s.now().Sub(s.savedLast) >= checkpointTime
}

// size gives the index of the last operation, and the bytes of those since the last checkpoint.
func (s *Store) size() (last uint64, bytes int64) {
	if r := s.replica; r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.applied.Index, r.bytes
	}
	return s.ops.Size()
}

// Checkpoint makes the tree durable and cuts the log off up to here. The tree can be read by others then.
func (s *Store) Checkpoint() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	err := s.checkpoint()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsaved = err
	return err
}

func (s *Store) checkpoint() error {
	s.savedLast = s.now()
	if err := s.Err(); err != nil {
		return err
	}
	if s.replica != nil && !s.replica.isSettled() {
		return errUnsettled
	}
	at, boxes, err := s.quiet()
	if err != nil {
		return err
	}
	var written []*written
	for _, m := range boxes {
		w, werr := m.write()
		if w != nil {
			written = append(written, w)
		}
		err = errors.Join(err, werr)
	}
	// the texts first, then the names: a name whose text is not there yet would be an empty list after a crash
	if err == nil {
		err = s.sync()
	}
	for _, w := range written {
		if err == nil {
			err = w.box.replace(w)
		}
	}
	if err == nil {
		err = s.sync()
	}
	if err == nil {
		err = s.save(at)
	}
	if err != nil {
		for _, w := range written {
			w.box.redo(w)
		}
		return fmt.Errorf("checkpoint: %w", err)
	}
	if s.ops == nil {
		return nil
	}
	return s.ops.Cut(at.Index)
}

// sync makes the tree durable. After a failure nobody knows what the disk has.
func (s *Store) sync() error {
	err := s.files.syncAll()
	if err != nil {
		s.fail(err)
	}
	return err
}

// quiet waits for a moment at which no operation is under way, and gives the index of the last and all mailboxes. Trees
// that fell behind are made fit.
func (s *Store) quiet() (Position, []*Mailbox, error) {
	s.gate.Lock()
	defer s.gate.Unlock()
	boxes := s.loadedBoxes()
	for _, m := range boxes {
		if err := m.catchUp(); err != nil {
			return Position{}, nil, err
		}
	}
	if r := s.replica; r != nil {
		if err := s.queueSave(); err != nil {
			return Position{}, nil, fmt.Errorf("save queue: %w", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bytes = 0
		return r.applied, boxes, nil
	}
	index, err := s.ops.Mark()
	if err != nil {
		return Position{}, nil, fmt.Errorf("mark log: %w", err)
	}
	return Position{Index: index}, boxes, nil
}

// catchUp makes a tree fit that fell behind. The caller holds the gate.
func (m *Mailbox) catchUp() error {
	m.mu.Lock()
	behind := m.behind
	m.mu.Unlock()
	if !behind {
		return nil
	}
	t, err := m.store.readTree(m.address)
	if err != nil {
		return err
	}
	return m.fit(t, m.carry)
}

// written is what a checkpoint wrote of a mailbox, beside the files that it is to replace.
type written struct {
	box     *Mailbox
	files   []string            // below the mailbox's directory
	folders map[string][]string // names of files by the folder's GUID
}

// steady has folders keep their directories until its result is called.
func (m *Mailbox) steady() (free func()) {
	if m.store.replica != nil { // order is held while an operation waits for the journal
		m.layout.RLock()
		return m.layout.RUnlock
	}
	m.order.RLock()
	return m.order.RUnlock
}

// part is a file of a folder with its text.
type part struct {
	guid, dir, name string
	text            func() []byte
}

// write writes the lists of a mailbox that changed since the last checkpoint, each as NAME.new.
func (m *Mailbox) write() (*written, error) {
	m.loading.Lock() // operations of a load that is under way count as well
	defer m.loading.Unlock()
	defer m.steady()()
	m.mu.Lock()
	if !m.dirty || !m.loaded {
		m.mu.Unlock()
		return nil, nil
	}
	m.dirty = false
	parts := m.parts()
	m.mu.Unlock()
	w := &written{box: m, folders: map[string][]string{}}
	for _, p := range parts {
		if p.guid == "" {
			w.files = append(w.files, p.name)
		} else {
			w.folders[p.guid] = append(w.folders[p.guid], p.name)
		}
		if err := m.store.files.write(filepath.Join(p.dir, p.name+".new"), p.text()); err != nil {
			return w, fmt.Errorf("write %s of %s: %w", p.name, m.address, err)
		}
	}
	return w, nil
}

// parts collects what is to be written. The texts are made without the lock, of what does not change.
func (m *Mailbox) parts() []part {
	text, subscribed := strconv.FormatUint(uint64(m.state.counter), 10)+"\n", m.state.subscribed
	if m.store.replica != nil {
		text = fmt.Sprintf("%d %d\n", m.state.counter, m.state.changed)
	}
	parts := []part{
		{dir: m.address, name: validityFile, text: func() []byte { return []byte(text) }},
		{dir: m.address, name: maildir.SubscriptionsFile, text: func() []byte { return maildir.SubscriptionsBytes(subscribed) }},
	}
	for guid, f := range m.byGUID {
		if !f.stale {
			continue
		}
		f.stale, f.shared = false, true
		dir, messages, keywords := f.dir(m.address), slices.Clip(f.messages), slices.Clone(f.keywords)
		changed, away := f.changed, m.away(f.contents)
		list := maildir.UIDList{Validity: f.validity, Next: f.next, GUID: guid}
		var sums listSums // of the two that are written before the index
		parts = append(parts,
			part{guid, dir, maildir.UIDListFile, summed(&sums.uids, func() []byte { return uidListBytes(list, messages) })},
			part{guid, dir, maildir.KeywordsFile, summed(&sums.keywords, func() []byte { return maildir.KeywordsBytes(keywords) })},
			part{guid, dir, indexFile, func() []byte { return indexBytes(changed, sums, messages, away) }})
	}
	return parts
}

func uidListBytes(list maildir.UIDList, messages []*Message) []byte {
	list.Entries = make([]maildir.UIDEntry, len(messages))
	for i, m := range messages {
		list.Entries[i] = maildir.UIDEntry{UID: m.UID, Base: m.base}
	}
	return list.Bytes()
}

// replace puts what write wrote into place. Folders may have other directories by now, or none.
func (m *Mailbox) replace(w *written) error {
	defer m.steady()()
	var errs []error
	move := func(dir, name string) {
		errs = append(errs, m.store.files.rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)))
	}
	for _, name := range w.files {
		move(m.address, name)
	}
	for guid, names := range w.folders {
		m.mu.Lock()
		f, dir := m.byGUID[guid], ""
		if f != nil {
			dir = f.dir(m.address)
		}
		m.mu.Unlock()
		for _, name := range names {
			if f != nil {
				move(dir, name)
			}
		}
	}
	return errors.Join(errs...)
}

// redo notes that what was written does not count.
func (m *Mailbox) redo(w *written) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirty = true
	for guid := range w.folders {
		if f := m.byGUID[guid]; f != nil {
			f.stale = true
		}
	}
}

// save writes the checkpoint itself.
func (s *Store) save(at Position) error {
	now := s.now()
	c := checkpoint{Index: at.Index, Time: now, Recent: s.recents(now)}
	if s.replica != nil {
		c.seal(at)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := s.files.put(checkpointFile, append(text, '\n')); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = checkpoint{Index: at.Index, Time: now, chain: at.Chain}
	return nil
}

// recents gives the deliveries of the last hour whose messages are gone.
func (s *Store) recents(now time.Time) []recentTx {
	old := now.Add(-txMemory).Unix()
	all := map[recentTx]bool{}
	boxes := s.loadedBoxes()
	s.mu.Lock()
	for _, lost := range s.lost {
		for _, r := range lost {
			if r.At >= old {
				all[r] = true
			}
		}
	}
	s.mu.Unlock()
	for _, m := range boxes {
		m.mu.Lock()
		if m.state != nil {
			for tx, r := range m.state.recent.at {
				if r.lost && r.at >= old {
					all[recentTx{m.address, tx, r.at, r.sum}] = true
				}
			}
		}
		m.mu.Unlock()
	}
	list := slices.Collect(maps.Keys(all))
	slices.SortFunc(list, func(a, b recentTx) int {
		return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.Mailbox, b.Mailbox), strings.Compare(a.Tx, b.Tx))
	})
	return list
}

// lostRecents gives the deliveries to a mailbox of which the last checkpoint told.
func (s *Store) lostRecents(address string) []recentTx {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost[address]
}

// syncLog is the log's fdatasync.
func (s *Store) syncLog(f *os.File) error {
	if err := s.files.ask("synclog", f.Name()); err != nil {
		return err
	}
	return unix.Fdatasync(int(f.Fd()))
}
