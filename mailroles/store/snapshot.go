package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// snapshotDir has a directory for each snapshot, and for each that is being taken or removed.
const snapshotDir = ".snapshots"

const (
	partSuffix = ".part" // is being taken
	goneSuffix = ".gone" // is being removed
	headFile   = "head"
)

const (
	// SnapshotEvery is how often a snapshot is taken, counted from midnight UTC, so that all replicas have the same.
	SnapshotEvery = 8 * time.Hour
	// SnapshotsKept is how many snapshots are kept of those, and how many of those that an operator asked for.
	SnapshotsKept = 5
)

// snapshotsAtOnce is how many snapshots can be under way.
const snapshotsAtOnce = 4

// ErrNoSnapshot says that there is no such snapshot here, or none that is early enough.
var ErrNoSnapshot = errors.New("store: no such snapshot")

// LUNSnapshot is a snapshot of a LUN: what it held after one operation, and before the next. Replicas have the same one under
// the same id.
type LUNSnapshot struct {
	ID        string    `json:"id"`
	Index     uint64    `json:"index"`           // of the last operation that it has
	Chain     string    `json:"chain,omitempty"` // head of the chain there, of a replicated LUN
	Time      time.Time `json:"time"`
	Manual    bool      `json:"manual,omitempty"` // an operator asked for it
	Method    string    `json:"method"`           // btrfs, reflink or hardlink
	Mailboxes int       `json:"mailboxes"`
	Messages  int64     `json:"messages"`
	Bytes     int64     `json:"bytes"`
	Lacking   int64     `json:"lacking"` // messages whose bodies were not here; another replica may have them
	Took      float64   `json:"took"`    // seconds
}

// snapshotOp asks each replica for a snapshot of the LUN.
type snapshotOp struct {
	Manual bool `json:"manual,omitempty"`
}

func (o *snapshotOp) check() error { return nil }

// snapshots is what the store knows of its snapshots.
type snapshots struct {
	writing sync.Mutex // held by who writes one, or removes one

	mu     sync.Mutex
	list   []LUNSnapshot // by index
	last   time.Time     // when the last was taken that nobody asked for, whole or not
	active []*capture    // under way, by index
	queue  chan *capture // those of operations, to be written; as many as active may be
}

// Snapshots lists the snapshots that are here, the oldest first.
func (s *Store) Snapshots() []LUNSnapshot {
	s.snapshots.mu.Lock()
	defer s.snapshots.mu.Unlock()
	return slices.Clone(s.snapshots.list)
}

// startSnapshots removes what is left of snapshots that were under way, and reads the list of those that are there.
func (s *Store) startSnapshots() error {
	s.snapshots.queue = make(chan *capture, snapshotsAtOnce)
	entries, err := os.ReadDir(s.files.at(snapshotDir))
	if err != nil {
		return fmt.Errorf("read snapshots: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(snapshotDir, e.Name())
		id, part := strings.CutSuffix(e.Name(), partSuffix)
		if part || strings.HasSuffix(e.Name(), goneSuffix) {
			if part {
				s.report.Interrupted = append(s.report.Interrupted, id)
				s.log.Warn("snapshot was interrupted, and is removed", "snapshot", id)
			}
			if err := s.removeTree(path); err != nil { // must not keep the mail from being read
				s.log.Error("cannot remove an interrupted snapshot", "path", path, "err", err)
			}
			continue
		}
		if !e.IsDir() {
			continue
		}
		var head LUNSnapshot
		text, err := os.ReadFile(s.files.at(filepath.Join(path, headFile)))
		if err == nil {
			err = json.Unmarshal(text, &head)
		}
		if err != nil || head.ID != e.Name() {
			s.log.Error("snapshot is damaged, and not used", "snapshot", e.Name(), "err", err)
			continue
		}
		s.addSnapshot(head)
	}
	return nil
}

// addSnapshot puts a snapshot into the list.
func (s *Store) addSnapshot(head LUNSnapshot) {
	s.snapshots.mu.Lock()
	defer s.snapshots.mu.Unlock()
	s.snapshots.list = append(s.snapshots.list, head)
	slices.SortFunc(s.snapshots.list, func(a, b LUNSnapshot) int { return cmp.Or(cmp.Compare(a.Index, b.Index), a.Time.Compare(b.Time)) })
	if !head.Manual && head.Time.After(s.snapshots.last) {
		s.snapshots.last = head.Time
	}
}

// snapshotID names a snapshot. Replicas give the same name, as all of it stands in the operation.
func snapshotID(at time.Time, index uint64) string {
	return fmt.Sprintf("%s-%d", at.UTC().Format("20060102T150405Z"), index)
}

// snapshotApply begins a snapshot of what the operations up to this one made. It is written in the background.
func (s *Store) snapshotApply(index uint64, o *op) error {
	at := time.Unix(o.At, 0).UTC()
	head := LUNSnapshot{ID: snapshotID(at, index), Index: index, Time: at, Manual: o.Snapshot.Manual}
	s.snapshots.mu.Lock()
	known := slices.ContainsFunc(s.snapshots.list, func(l LUNSnapshot) bool { return l.ID == head.ID })
	s.snapshots.mu.Unlock()
	if known {
		return nil // the operation comes again after a crash
	}
	now := s.Applied()
	if now.Index != index { // others have been done since, before the start
		s.log.Warn("no snapshot, as the store was only just starting", "snapshot", head.ID)
		s.note(func(r *Report) { r.Interrupted = append(r.Interrupted, head.ID) })
		return nil
	}
	head.Chain = now.Chain.String()
	c, err := s.beginSnapshot(head)
	if err != nil { // this replica goes without it
		s.log.Error("no snapshot", "snapshot", head.ID, "err", err)
		return nil
	}
	s.snapshots.queue <- c // never waits: it has room for all that are active
	return nil
}

// beginSnapshot captures what is in memory, and has the rest captured before it changes. No operation may be done meanwhile.
func (s *Store) beginSnapshot(head LUNSnapshot) (*capture, error) {
	addresses, err := s.addresses()
	if err != nil {
		return nil, err
	}
	c := newCapture(head, addresses)
	s.snapshots.mu.Lock()
	if !head.Manual && head.Time.After(s.snapshots.last) {
		s.snapshots.last = head.Time
	}
	if len(s.snapshots.active) >= snapshotsAtOnce {
		s.snapshots.mu.Unlock()
		return nil, errors.New("too many snapshots are under way")
	}
	s.snapshots.active = append(s.snapshots.active, c)
	s.snapshots.mu.Unlock()
	for _, m := range s.loadedBoxes() {
		m.mu.Lock()
		if m.replayed {
			c.take(m)
		}
		m.mu.Unlock()
	}
	return c, nil
}

// captureLoaded has the snapshots that are under way capture a mailbox whose state has just been read. The caller holds its mu.
func (s *Store) captureLoaded(m *Mailbox) {
	s.snapshots.mu.Lock()
	active := slices.Clone(s.snapshots.active)
	s.snapshots.mu.Unlock()
	for _, c := range active {
		c.take(m)
	}
}

// TakeSnapshot takes a snapshot now, at all replicas, and returns when it is whole here.
func (s *Store) TakeSnapshot(ctx context.Context) (LUNSnapshot, error) {
	return s.takeSnapshot(ctx, true)
}

func (s *Store) takeSnapshot(ctx context.Context, manual bool) (LUNSnapshot, error) {
	if s.journal == nil {
		c, err := s.captureNow(manual)
		if err != nil {
			return LUNSnapshot{}, fmt.Errorf("take snapshot: %w", err)
		}
		s.completeSnapshot(ctx, c)
		return c.head, c.err
	}
	index, err := s.proposeSnapshot(manual)
	if err != nil {
		return LUNSnapshot{}, fmt.Errorf("take snapshot: %w", err)
	}
	return s.awaitSnapshot(ctx, index)
}

// captureNow begins a snapshot of a LUN that is not replicated, at a moment at which no operation is under way.
func (s *Store) captureNow(manual bool) (*capture, error) {
	s.gate.Lock()
	defer s.gate.Unlock()
	if err := s.Err(); err != nil {
		return nil, err
	}
	index, _ := s.ops.Size()
	at := s.now().UTC().Truncate(time.Second)
	return s.beginSnapshot(LUNSnapshot{ID: snapshotID(at, index), Index: index, Time: at, Manual: manual})
}

// proposeSnapshot has all replicas take a snapshot.
func (s *Store) proposeSnapshot(manual bool) (index uint64, err error) {
	return s.replica.propose(&op{Kind: opSnapshot, Snapshot: &snapshotOp{Manual: manual}}, nil)
}

// awaitSnapshot waits until the snapshot of an operation that was done is whole.
func (s *Store) awaitSnapshot(ctx context.Context, index uint64) (LUNSnapshot, error) {
	at := func(list []LUNSnapshot) int {
		return slices.IndexFunc(list, func(l LUNSnapshot) bool { return l.Index == index })
	}
	s.snapshots.mu.Lock()
	var c *capture
	for _, a := range s.snapshots.active {
		if a.index == index {
			c = a
		}
	}
	s.snapshots.mu.Unlock()
	if c != nil {
		select {
		case <-c.done:
			return c.head, c.err
		case <-ctx.Done():
			return LUNSnapshot{}, fmt.Errorf("wait for snapshot: %w", ctx.Err())
		}
	}
	list := s.Snapshots()
	if i := at(list); i >= 0 {
		return list[i], nil
	}
	return LUNSnapshot{}, fmt.Errorf("%w: that of operation %d", ErrNoSnapshot, index)
}

// completeSnapshot writes a snapshot, and removes those that are too many by then.
func (s *Store) completeSnapshot(ctx context.Context, c *capture) {
	s.snapshots.writing.Lock()
	defer s.snapshots.writing.Unlock()
	began := time.Now()
	c.err = s.writeSnapshot(ctx, c)
	s.snapshots.mu.Lock()
	s.snapshots.active = slices.DeleteFunc(s.snapshots.active, func(a *capture) bool { return a == c })
	s.snapshots.mu.Unlock()
	if c.err != nil {
		c.err = fmt.Errorf("take snapshot %s: %w", c.head.ID, c.err)
		s.log.Error("no snapshot", "snapshot", c.head.ID, "err", c.err)
	} else {
		s.addSnapshot(c.head)
		s.log.Info("snapshot is taken", "snapshot", c.head.ID, "index", c.head.Index, "method", c.head.Method,
			"messages", c.head.Messages, "lacking", c.head.Lacking, "took", time.Since(began))
		s.prune()
	}
	close(c.done)
}

// prune removes the snapshots that are too many: the oldest of those that nobody asked for, and of the others.
func (s *Store) prune() {
	kept := map[bool]int{}
	list := s.Snapshots()
	for _, l := range slices.Backward(list) {
		if kept[l.Manual]++; kept[l.Manual] > SnapshotsKept {
			if err := s.dropSnapshot(l.ID); err != nil {
				s.log.Error("cannot remove a snapshot", "snapshot", l.ID, "err", err)
			}
		}
	}
}

// dropSnapshot removes a snapshot. A crash in its midst leaves nothing that could be taken for one. The caller holds writing.
func (s *Store) dropSnapshot(id string) error {
	s.snapshots.mu.Lock()
	s.snapshots.list = slices.DeleteFunc(s.snapshots.list, func(l LUNSnapshot) bool { return l.ID == id })
	s.snapshots.mu.Unlock()
	path := filepath.Join(snapshotDir, id)
	if err := s.files.rename(path, path+goneSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.removeTree(path + goneSuffix)
}
