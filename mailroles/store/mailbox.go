package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"anycastle/internal/wholefile"
	"anycastle/mailroles/maildir"
)

const (
	subscriptionsFile = "subscriptions"
	validityFile      = "anycastle-uidvalidity"
	folderMark        = "maildirfolder" // tells Maildir++ readers that a directory is a folder
)

// Mailbox is one user's mail.
type Mailbox struct {
	store *Store
	dir   string
	log   *slog.Logger

	mu      sync.Mutex // guards everything below, the folders' state and the files
	folders map[string]*Folder
	recent  map[string]time.Time // transaction ids of deliveries and when they were
	limit   Limit
}

// Folder opens a folder. The error is ErrNoFolder when there is none, or maildir.ErrFolderName.
func (m *Mailbox) Folder(name string) (*Folder, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.folder(name)
}

func (m *Mailbox) folder(name string) (*Folder, error) {
	name = maildir.CleanFolder(name)
	if f, ok := m.folders[name]; ok {
		return f, f.load()
	}
	sub, err := maildir.FolderDir(name)
	if err != nil {
		return nil, err
	}
	f := &Folder{box: m, name: name, dir: filepath.Join(m.dir, sub), changed: make(chan struct{})}
	if !isFolder(f.dir) && name != maildir.Inbox {
		return nil, fmt.Errorf("%w: %s", ErrNoFolder, name)
	}
	if err := f.load(); err != nil {
		return nil, err
	}
	m.folders[name] = f
	return f, nil
}

// loadAll opens every folder, so that the mailbox knows how much it holds.
func (m *Mailbox) loadAll() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	names, err := m.list()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := m.folder(name); err != nil {
			return err
		}
	}
	return nil
}

func isFolder(dir string) bool {
	st, err := os.Stat(filepath.Join(dir, "cur"))
	return err == nil && st.IsDir()
}

// Folders lists the names of all folders in order, INBOX first.
func (m *Mailbox) Folders() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list()
}

func (m *Mailbox) list() ([]string, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("list folders: %w", err)
	}
	names := []string{maildir.Inbox}
	for _, e := range entries {
		if name, ok := maildir.FolderName(e.Name()); ok && isFolder(filepath.Join(m.dir, e.Name())) {
			names = append(names, name)
		}
	}
	slices.Sort(names[1:])
	return names, nil
}

// Create makes a folder.
func (m *Mailbox) Create(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = maildir.CleanFolder(name)
	dir, err := m.freeDir(name)
	if err != nil {
		return err
	}
	// the folder counts as one once cur is there, which makeMaildir makes last
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("create folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, folderMark), nil, 0o600); err != nil {
		return fmt.Errorf("create folder: %w", err)
	}
	if err := makeMaildir(dir); err != nil {
		return err
	}
	_, err = m.folder(name) // makes it durable
	return err
}

// freeDir gives the directory that a new folder of the name will have, or ErrExists.
func (m *Mailbox) freeDir(name string) (string, error) {
	sub, err := maildir.FolderDir(name)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(m.dir, sub)
	if name == maildir.Inbox || isFolder(dir) {
		return "", fmt.Errorf("%w: %s", ErrExists, name)
	}
	return dir, nil
}

// Delete removes a folder with its messages; folders below it stay. Open sessions find it empty and gone.
func (m *Mailbox) Delete(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.folder(name)
	if err != nil {
		return err
	}
	if f.name == maildir.Inbox {
		return ErrInbox
	}
	if err := makeMaildir(m.dir); err != nil {
		return err
	}
	// one rename takes the folder away as a whole; what a crash leaves of it lies in tmp, where no one looks
	grave := filepath.Join(m.dir, "tmp", m.store.base("", 0))
	if err := os.Rename(f.dir, grave); err != nil {
		return fmt.Errorf("delete folder: %w", err)
	}
	delete(m.folders, f.name)
	f.gone = true
	f.set(nil)
	if err := wholefile.SyncDir(m.dir); err != nil {
		return err
	}
	if err := os.RemoveAll(grave); err != nil {
		m.log.Warn("deleted folder leaves files in tmp", "err", err)
	}
	return nil
}

// Rename renames a folder and those below it. Each keeps its messages, UIDs and UIDVALIDITY.
func (m *Mailbox) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to = maildir.CleanFolder(from), maildir.CleanFolder(to)
	if from == maildir.Inbox {
		return ErrInbox
	}
	if _, err := m.folder(from); err != nil {
		return err
	}
	names, err := m.list()
	if err != nil {
		return err
	}
	moves := map[string]string{}
	for _, name := range names {
		rest, below := strings.CutPrefix(name, from+string(maildir.Delim))
		switch {
		case name == from:
			moves[name] = to
		case below:
			moves[name] = to + string(maildir.Delim) + rest
		}
	}
	for _, target := range moves {
		if _, err := m.freeDir(target); err != nil {
			return err
		}
	}
	for name, target := range moves {
		if err := m.move(name, target); err != nil {
			return err
		}
	}
	return wholefile.SyncDir(m.dir)
}

func (m *Mailbox) move(name, target string) error {
	f, err := m.folder(name)
	if err != nil {
		return err
	}
	dir, err := m.freeDir(target)
	if err != nil {
		return err
	}
	if err := os.Rename(f.dir, dir); err != nil {
		return fmt.Errorf("rename folder: %w", err)
	}
	delete(m.folders, name)
	f.name, f.dir = target, dir
	m.folders[target] = f
	return nil
}

// Subscriptions lists the folders that the user subscribed to, which need not exist.
func (m *Mailbox) Subscriptions() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.subscriptions()
}

func (m *Mailbox) subscriptions() ([]string, error) {
	text, err := os.ReadFile(filepath.Join(m.dir, subscriptionsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read subscriptions: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == maildir.Inbox {
			names = append(names, line)
		} else if name, ok := maildir.FolderName("." + line); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Subscribe adds or removes a subscription; doing so twice is no error.
func (m *Mailbox) Subscribe(name string, on bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = maildir.CleanFolder(name)
	if _, err := maildir.FolderDir(name); err != nil {
		return err
	}
	names, err := m.subscriptions()
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == name })
	if on {
		names = append(names, name)
	}
	var b strings.Builder
	for _, n := range names {
		dir, err := maildir.FolderDir(n)
		if err != nil {
			return err
		}
		if dir == "" {
			dir = "." + n
		}
		b.WriteString(dir[1:] + "\n")
	}
	return wholefile.PutDurably(filepath.Join(m.dir, subscriptionsFile), []byte(b.String()))
}

// nextValidity gives a UIDVALIDITY that no folder of the mailbox ever had, and makes that durable. Without a counter
// that can be read, any small value may have been in use, also by a mailbox of the name before this one: counting starts
// at the clock.
func (m *Mailbox) nextValidity() (uint32, error) {
	path := filepath.Join(m.dir, validityFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("read UIDVALIDITY counter: %w", err)
	}
	last, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		last = uint64(m.store.now().Unix())
	}
	next := uint32(last) + 1
	return next, wholefile.PutDurably(path, []byte(strconv.FormatUint(uint64(next), 10)+"\n"))
}
