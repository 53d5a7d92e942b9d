package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/internal/wholefile"
	"anycastle/mailroles/maildir"
)

// Errors that callers turn into answers of their protocol.
var (
	ErrNoFolder  = errors.New("store: no such folder")
	ErrExists    = errors.New("store: folder exists")
	ErrInbox     = errors.New("store: INBOX cannot be deleted or renamed")
	ErrNoMessage = errors.New("store: no such message")
	ErrTruncated = errors.New("store: body ended before its announced size")
	ErrInUse     = errors.New("store: another process has the LUN open")
	ErrQuota     = errors.New("store: mailbox has no room")
	ErrKeywords  = errors.New("store: folder has no room for another keyword")
	ErrFull      = errors.New("store: LUN has its 1000 mailboxes, which is the most it may have")
)

// maxMailboxes is how many mailboxes a LUN may have.
const maxMailboxes = 1000

// lockFile guards a LUN against a second store process.
const lockFile = ".anycastle-lock"

// Store is one open LUN.
type Store struct {
	root string
	log  *slog.Logger
	lock *os.File
	host string
	seq  atomic.Uint64
	now  func() time.Time

	mu    sync.Mutex
	boxes map[string]*Mailbox
}

// Open takes the LUN's directory, which must exist: an unmounted file system must not turn into empty mailboxes.
func Open(root string, log *slog.Logger) (*Store, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("ask for the host name: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(root, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open LUN: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", root, err), lock.Close())
	}
	return &Store{root: root, log: log, lock: lock, host: host, now: time.Now, boxes: map[string]*Mailbox{}}, nil
}

// Close gives the LUN up. No operation may run or follow.
func (s *Store) Close() error { return s.lock.Close() }

// Mailbox gives the mailbox of an address, and makes its directory when it is the first time. The caller has checked
// that the address belongs to this LUN and is a plain file name. The error is ErrFull when it would be one too many.
func (s *Store) Mailbox(address string) (*Mailbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.boxes[address]; ok {
		return m, nil
	}
	if filepath.Base(address) != address || address[0] == '.' {
		return nil, fmt.Errorf("open mailbox: %q is no plain name", address)
	}
	m := &Mailbox{
		store:   s,
		dir:     filepath.Join(s.root, address),
		log:     s.log.With("mailbox", address),
		folders: map[string]*Folder{},
		recent:  map[string]time.Time{},
	}
	if err := s.makeMailbox(m.dir); err != nil {
		return nil, err
	}
	// also when it was there: who made it may have died before it was durable
	if err := wholefile.SyncDir(s.root); err != nil {
		return nil, err
	}
	if err := m.loadAll(); err != nil {
		return nil, err
	}
	s.boxes[address] = m
	return m, nil
}

// makeMailbox makes the directory of a mailbox unless it is there.
func (s *Store) makeMailbox(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return fmt.Errorf("count mailboxes: %w", err)
	}
	n := 0
	for _, e := range entries {
		if e.IsDir() && e.Name()[0] != '.' {
			n++
		}
	}
	if n >= maxMailboxes {
		return fmt.Errorf("make mailbox %s: %w", filepath.Base(dir), ErrFull)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make mailbox: %w", err)
	}
	return nil
}

// base makes a unique base name.
func (s *Store) base(tx string, size int64) string {
	return maildir.Stamp{At: s.now(), PID: uint64(os.Getpid()), Seq: s.seq.Add(1), Host: s.host, Tx: tx, Size: size}.Base()
}
