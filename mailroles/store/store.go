package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/internal/phase"
	"anycastle/mailroles/maildir"
	"anycastle/mailroles/store/oplog"
)

// Errors that callers turn into answers of their protocol.
var (
	ErrNoFolder  = errors.New("store: no such folder")
	ErrExists    = errors.New("store: folder exists")
	ErrInbox     = errors.New("store: INBOX cannot be deleted")
	ErrNoMessage = errors.New("store: no such message")
	ErrTruncated = errors.New("store: body ended before its announced size")
	ErrInUse     = errors.New("store: another process has the LUN open")
	ErrQuota     = errors.New("store: mailbox has no room")
	ErrKeywords  = errors.New("store: folder has no room for another keyword")
	ErrFull      = errors.New("store: LUN has its 1000 mailboxes, which is the most it may have")
	ErrStopped   = errors.New("store: stopped after a failure of the disk")

	// Of a replicated LUN; each may be gone a moment later.
	ErrPassive = errors.New("store: this replica is not the active store of the LUN")
	ErrAlone   = errors.New("store: no replica of the other site can be reached")
	ErrUnfit   = errors.New("store: the disk of this replica takes no mail")
	ErrMissing = errors.New("store: the body of the message is not here yet")
	ErrBlank   = errors.New("store: the tree of this replica cannot be trusted, and must be made anew from another")
)

// maxMailboxes is how many mailboxes a LUN may have.
const maxMailboxes = 1000

// lockFile guards a LUN against a second store process.
const lockFile = ".anycastle-lock"

// Log is the order of a LUN's operations, and keeps them.
type Log interface {
	// Append takes a record. The order of calls is the order of the log. wait blocks until the record is durable, and
	// gives its index; after an error of it nobody knows. relief says that the record helps to free space.
	Append(record []byte, relief bool) (wait func() (index uint64, err error), err error)
	// Mark gives the index of the last record, none being under way, and prepares for Cut.
	Mark() (index uint64, err error)
	// Cut forgets the records up to an index.
	Cut(index uint64) error
	// Size gives the index of the last record, and the bytes of those that Mark would let go.
	Size() (last uint64, bytes int64)
	// Replay calls each for the records from an index on, in order.
	Replay(from uint64, each func(index uint64, record []byte) error) error
	Close() error
}

var _ Log = (*oplog.Log)(nil)

// Options say how a LUN is kept. Root must be given.
type Options struct {
	Root   string
	Log    *slog.Logger                             // nil: silent
	Synced func(operations int, took time.Duration) // told after each fsync of the log; nil: nobody

	// Keep is how long bodies of messages that are gone can be restored; DefaultKeep when zero.
	Keep time.Duration
	// Records calls each for the operations of the journal from one index to another, in order; its error ends it. nil:
	// those that the log in the tree still has.
	Records func(from, to uint64, each func(index uint64, record []byte) error) error

	// Journal, of a replicated LUN, has its operations instead of a log in the tree.
	Journal Journal
	// Since is a time that the stores of a process have in common: what each does from time to time they do at once.
	Since time.Time

	now   func() time.Time
	fault func(step, path string) error
}

// Store is one open LUN.
type Store struct {
	root  string
	log   *slog.Logger
	lock  *os.File
	host  string
	seq   atomic.Uint64
	now   func() time.Time
	since time.Time // see Options
	files files
	ops   Log // nil in a replicated LUN, which has a journal

	// of a replicated LUN; nil else
	journal Journal
	replica *replica
	checked atomic.Bool // all mailboxes have been looked at
	tidied  time.Time   // when the incoming directory was last looked through; used by Run only
	queue   queueState

	expunged  expunged
	snapshots snapshots
	records   func(from, to uint64, each func(index uint64, record []byte) error) error

	bodies       atomic.Uint64 // names made in the incoming directory
	bodiesSynced uint64        // of those, durable; used by the log's writer only

	gate      sync.RWMutex // held by operations until they are done; before all other locks but a mailbox's loading
	saving    sync.Mutex   // one checkpoint at a time
	saved     checkpoint   // guarded by mu
	savedLast time.Time    // when a checkpoint was last tried; guarded by saving

	mu      sync.Mutex
	boxes   map[string]*Mailbox
	lost    map[string][]recentTx // of mailboxes that are not loaded: deliveries whose messages are gone
	usage   map[string]Usage      // of mailboxes that the check has let go again
	report  Report
	unsaved error // of the last try of a checkpoint
	failure error
	failed  chan struct{} // closed with failure
}

// Open takes the LUN's directory, which must exist: an unmounted file system must not turn into empty mailboxes.
func Open(root string, log *slog.Logger) (*Store, error) {
	return OpenWith(Options{Root: root, Log: log})
}

// OpenWith takes the LUN's directory and does what the log has and the tree does not show yet.
func OpenWith(opt Options) (*Store, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.now == nil {
		opt.now = time.Now
	}
	if opt.Journal != nil {
		if err := convert(opt); err != nil {
			return nil, err
		}
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("ask for the host name: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(opt.Root, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open LUN: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", opt.Root, err), lock.Close())
	}
	s := &Store{
		root: opt.Root, log: opt.Log, lock: lock, host: host, now: opt.now, since: opt.Since, journal: opt.Journal,
		files: files{root: opt.Root, lock: lock, fault: opt.fault},
		boxes: map[string]*Mailbox{}, lost: map[string][]recentTx{}, usage: map[string]Usage{}, failed: make(chan struct{}),
	}
	s.expunged.keep = cmp.Or(opt.Keep, DefaultKeep)
	s.records = opt.Records
	begin := s.start
	if s.journal != nil {
		s.replica = newReplica(s)
		begin = s.startReplica
	}
	if err := begin(opt); err != nil {
		if s.ops != nil {
			err = errors.Join(err, s.ops.Close())
		}
		return nil, errors.Join(fmt.Errorf("open LUN %s: %w", opt.Root, err), lock.Close())
	}
	return s, nil
}

// Close makes a last checkpoint and gives the LUN up. No operation may run or follow.
func (s *Store) Close() error {
	var err error
	if s.Err() == nil && (s.replica == nil || s.replica.isSettled()) {
		err = s.Checkpoint()
	}
	if s.ops != nil {
		err = errors.Join(err, s.ops.Close())
	}
	return errors.Join(err, s.lock.Close())
}

// Run makes checkpoints when they are due, and checks all mailboxes once, until ctx ends or the disk fails: the error is
// then ErrStopped, and the LUN must be opened again.
func (s *Store) Run(ctx context.Context) error {
	var check sync.WaitGroup
	defer check.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	check.Go(func() { s.tend(ctx) })
	check.Go(func() {
		if s.replica == nil {
			s.Check(ctx)
			return
		}
		select {
		case <-s.Settled():
			s.Check(ctx)
		case <-ctx.Done():
		}
	})
	tick := phase.NewTicker(s.since, time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.failed:
			return s.Err()
		case <-tick.C:
			tick.Next()
			if s.replica != nil {
				s.tidy()
			}
			if !s.due() {
				continue
			}
			if err := s.Checkpoint(); err != nil {
				s.log.Error("no checkpoint", "err", err)
			}
		}
	}
}

// fail stops the store: what the disk has is not known any more. Opening it again tells.
func (s *Store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return
	}
	s.failure = fmt.Errorf("%w: %w", ErrStopped, err)
	s.log.Error("store stops", "err", err)
	close(s.failed)
}

// Err is the error for which the store stopped, or nil.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Mailbox gives the mailbox of an address, and makes it when it is the first time. The caller has checked that the
// address belongs to this LUN and is a plain file name. The error is ErrFull when it would be one too many.
func (s *Store) Mailbox(address string) (*Mailbox, error) {
	if !plainName(address) {
		return nil, fmt.Errorf("open mailbox: %q is no plain name", address)
	}
	if s.replica != nil {
		return s.replicatedMailbox(address)
	}
	m, err := s.box(address)
	if err != nil {
		return nil, err
	}
	m.loading.Lock()
	defer m.loading.Unlock()
	if m.loaded {
		return m, nil
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	return m, m.load(nil)
}

// box gives a mailbox that may have to be loaded.
func (s *Store) box(address string) (*Mailbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.boxes[address]
	if !ok {
		if err := s.makeMailbox(address); err != nil {
			return nil, err
		}
		m = s.newBox(address)
	}
	m.asked = true
	return m, nil
}

// loadedBoxes gives the mailboxes that are in memory, or about to be.
func (s *Store) loadedBoxes() []*Mailbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.boxes))
}

func (s *Store) newBox(address string) *Mailbox {
	m := &Mailbox{
		store: s, address: address, log: s.log.With("mailbox", address), origins: map[string]string{}, came: map[string]uint64{},
	}
	s.boxes[address] = m
	return m
}

// makeMailbox makes the directory of a mailbox unless it is there.
func (s *Store) makeMailbox(address string) error {
	if _, err := os.Stat(s.files.at(address)); err == nil {
		return nil
	}
	known, err := s.addresses()
	if err != nil {
		return err
	}
	if len(known) >= maxMailboxes {
		return fmt.Errorf("make mailbox %s: %w", address, ErrFull)
	}
	if err := s.files.mkdir(address); err != nil {
		return fmt.Errorf("make mailbox: %w", err)
	}
	return nil
}

// addresses lists the mailboxes that have a directory.
func (s *Store) addresses() ([]string, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, fmt.Errorf("list mailboxes: %w", err)
	}
	var list []string
	for _, e := range entries {
		if e.IsDir() && plainName(e.Name()) && strings.Contains(e.Name(), "@") { // others are none of ours
			list = append(list, e.Name())
		}
	}
	return list, nil
}

// plainName reports whether a name can be that of a file within a directory, and not a hidden one.
func plainName(name string) bool {
	return name != "" && name[0] != '.' && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}

// unique makes the unique part of a base name.
func (s *Store) unique(tx string) string {
	return maildir.Stamp{At: s.now(), PID: uint64(os.Getpid()), Seq: s.seq.Add(1), Host: s.host, Tx: tx}.Unique()
}
