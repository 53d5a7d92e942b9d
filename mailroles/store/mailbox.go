package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"anycastle/mailroles/maildir"
)

// Mailbox is one user's mail.
type Mailbox struct {
	store   *Store
	address string // and name of its directory
	log     *slog.Logger

	loading sync.Mutex // guards loaded, and is held while the mailbox is read
	loaded  bool
	ready   atomic.Bool // loaded, for who does not hold loading
	asked   bool        // by others than the start-up check; guarded by the store's mu

	order  sync.RWMutex // held by operations until they are done; before mu
	layout sync.RWMutex // of a replicated LUN: held where folders get and lose directories; before mu

	mu       sync.Mutex // guards everything below, the folders and the files
	state    *state
	replayed bool // state is what the log made of the mailbox, and follows it from now on; loading may go on
	byGUID   map[string]*Folder
	byName   map[string]*Folder
	queue    []*proposal          // under way, in the order of the log
	promised Usage                // once all that is under way is done
	txAhead  map[string]*proposal // deliveries under way, by transaction id
	limit    Limit
	dirty    bool              // differs from what the last checkpoint wrote
	behind   bool              // the tree differs from the state
	dead     map[deadFile]bool // files whose messages are gone, and that could not be removed
	adopting map[string]string // files of the messages that are being adopted, by base name

	// of a replicated LUN
	lacking bool              // there may be messages whose bodies are not here
	origins map[string]string // base names of messages that were copied, by the unique parts of the copies'
	came    map[string]uint64 // operations that brought messages since the checkpoint, by unique part; while it is loaded
	texts   map[string]text   // messages that have files, by their sums; nil: not known
}

// deadFile is a message's file by its folder's GUID and its base name.
type deadFile struct{ folder, base string }

// Folder opens a folder. The error is ErrNoFolder when there is none, or maildir.ErrFolderName.
func (m *Mailbox) Folder(name string) (*Folder, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.find(name)
}

func (m *Mailbox) find(name string) (*Folder, error) {
	name = maildir.CleanFolder(name)
	if f, ok := m.byName[name]; ok {
		return f, nil
	}
	if _, err := maildir.FolderDir(name); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %s", ErrNoFolder, name)
}

// open makes a folder known to clients.
func (m *Mailbox) open(c *contents) {
	if f := m.byGUID[c.guid]; f == nil {
		m.byGUID[c.guid] = newFolder(m, c)
	}
	m.byName[c.name] = m.byGUID[c.guid]
}

// close ends a folder that has been deleted. Open sessions find it empty and gone.
func (m *Mailbox) close(f *Folder) {
	delete(m.byGUID, f.guid)
	delete(m.byName, f.name)
	f.gone = true
	for _, msg := range f.messages {
		m.promised.add(-msg.Size, -1)
	}
	f.contents = &contents{guid: f.guid, name: f.name, validity: f.validity, next: f.next, changed: f.changed}
}

// rename makes folders known by the names that an operation gave them.
func (m *Mailbox) rename(o *op) {
	if o.Kind != opRename {
		return
	}
	clear(m.byName)
	for _, f := range m.byGUID {
		m.byName[f.name] = f
	}
}

// Folders lists the names of all folders in order, INBOX first.
func (m *Mailbox) Folders() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := []string{maildir.Inbox}
	for name := range m.byName {
		if name != maildir.Inbox {
			names = append(names, name)
		}
	}
	slices.Sort(names[1:])
	return names, nil
}

// Create makes a folder.
func (m *Mailbox) Create(name string) error { return m.create(name, m.operateAlone) }

func (m *Mailbox) create(name string, do carrier) error {
	return do(false, func() (*op, error) {
		name := maildir.CleanFolder(name)
		if err := m.free(name); err != nil {
			return nil, err
		}
		return m.creation(name)
	})
}

// creation makes a folder's operation. UIDVALIDITY counts up within a mailbox, and is never behind the clock: a mailbox of
// the name before this one, or this one before it was put back to what it had been, may have used what is less.
func (m *Mailbox) creation(name string) (*op, error) {
	guid := make([]byte, 16)
	if _, err := rand.Read(guid); err != nil {
		return nil, fmt.Errorf("make folder id: %w", err)
	}
	last := max(m.state.counter, uint32(m.store.now().Unix()))
	return &op{Kind: opCreate, Folder: hex.EncodeToString(guid), Name: name, Validity: last + 1}, nil
}

// free reports that a folder cannot get a name: because it is none, or with ErrExists.
func (m *Mailbox) free(name string) error {
	if _, err := maildir.FolderDir(name); err != nil {
		return err
	}
	if _, ok := m.byName[name]; ok || name == maildir.Inbox {
		return fmt.Errorf("%w: %s", ErrExists, name)
	}
	return nil
}

// Delete removes a folder with its messages; folders below it stay. Open sessions find it empty and gone.
func (m *Mailbox) Delete(name string) error { return m.remove(name, m.operateAlone) }

func (m *Mailbox) remove(name string, do carrier) error {
	var guid string
	err := do(true, func() (*op, error) {
		f, err := m.find(name)
		if err != nil {
			return nil, err
		}
		if f.name == maildir.Inbox {
			return nil, ErrInbox
		}
		guid = f.guid
		return &op{Kind: opDelete, Folder: f.guid}, nil
	})
	if err != nil {
		return err
	}
	if m.store.replica != nil { // each replica does it in its own time
		return nil
	}
	if err := m.store.retireFolder(grave(guid)); err != nil {
		m.log.Warn("deleted folder leaves files", "err", err)
	}
	return nil
}

// Rename renames a folder and those below it. Each keeps its messages, UIDs and UIDVALIDITY. INBOX stays, and so do
// those below it: its messages move to a new folder (RFC 3501 section 6.3.5).
func (m *Mailbox) Rename(from, to string) error {
	from, to = maildir.CleanFolder(from), maildir.CleanFolder(to)
	if from == maildir.Inbox {
		return m.renameInbox(to)
	}
	return m.operateAlone(true, func() (*op, error) {
		if _, err := m.find(from); err != nil {
			return nil, err
		}
		o := &op{Kind: opRename}
		for name, f := range m.byName {
			rest, below := strings.CutPrefix(name, from+string(maildir.Delim))
			target := to
			if below {
				target += string(maildir.Delim) + rest
			} else if name != from {
				continue
			}
			if err := m.free(target); err != nil {
				return nil, err
			}
			o.Renames = append(o.Renames, renaming{Folder: f.guid, Name: target})
		}
		slices.SortFunc(o.Renames, func(a, b renaming) int { return strings.Compare(a.Name, b.Name) })
		return o, nil
	})
}

// renameInbox moves what is in INBOX. A crash in its midst leaves the new folder, and nothing in it.
func (m *Mailbox) renameInbox(to string) error {
	return m.store.during(func() (last result, err error) {
		m.order.Lock()
		defer m.order.Unlock()
		do := func(relief bool, build func() (*op, error)) (err error) {
			last, err = m.propel(relief, build)
			return err
		}
		if err := m.create(to, do); err != nil {
			return last, err
		}
		inbox, err := m.Folder(maildir.Inbox)
		if err != nil {
			return last, err
		}
		var uids []uint32
		for _, msg := range inbox.Snapshot().Messages {
			uids = append(uids, msg.UID)
		}
		if _, _, err := inbox.transfer(opMove, uids, to, do); err != nil {
			return last, errors.Join(err, m.remove(to, do))
		}
		return last, nil
	})
}

// Subscriptions lists the folders that the user subscribed to, which need not exist.
func (m *Mailbox) Subscriptions() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.state.subscribed), nil
}

// Subscribe adds or removes a subscription; doing so twice is no error.
func (m *Mailbox) Subscribe(name string, on bool) error {
	return m.operateAlone(true, func() (*op, error) {
		name := maildir.CleanFolder(name)
		if _, err := maildir.FolderDir(name); err != nil {
			return nil, err
		}
		if slices.Contains(m.state.subscribed, name) == on {
			return nil, nil
		}
		return &op{Kind: opSubscribe, Name: name, Off: !on}, nil
	})
}
