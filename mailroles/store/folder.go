package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"anycastle/internal/wholefile"
	"anycastle/mailroles/maildir"
)

// Message is one message as it stood when it was looked at; it does not change.
type Message struct {
	UID  uint32
	Size int64
	Date time.Time // INTERNALDATE
	Marks

	base string
	file string // below the folder: "new/…" or "cur/…"
}

// Snapshot is a folder at one moment. Messages are in the order of their UIDs; neither the slice nor what it points to
// changes, or may be changed.
type Snapshot struct {
	Generation uint64 // differs when anything differs
	Validity   uint32
	Next       uint32
	Messages   []*Message
	Keywords   []string // all that the folder knows, in the order in which they came
	Gone       bool     // the folder has been deleted
}

// Folder is one open folder.
type Folder struct {
	box *Mailbox

	// guarded by box.mu
	name       string
	dir        string
	loaded     bool
	gone       bool
	list       maildir.UIDList // Entries are not kept up to date; messages are
	keywords   []string        // by letter
	messages   []*Message      // replaced, never changed in place, apart from appending
	generation uint64
	changed    chan struct{} // closed at the next change
}

// Snapshot gives the folder as it is now.
func (f *Folder) Snapshot() Snapshot {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	return Snapshot{
		Generation: f.generation,
		Validity:   f.list.Validity,
		Next:       f.list.Next,
		Messages:   slices.Clip(f.messages),
		Keywords:   slices.DeleteFunc(slices.Clone(f.keywords), func(k string) bool { return k == "" }),
		Gone:       f.gone,
	}
}

// Changed gives a channel that is closed once the folder's generation is another than the given one.
func (f *Folder) Changed(generation uint64) <-chan struct{} {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	if f.generation != generation {
		now := make(chan struct{})
		close(now)
		return now
	}
	return f.changed
}

// Message gives one message as it is now.
func (f *Folder) Message(uid uint32) (*Message, bool) {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	i, ok := f.find(uid)
	if !ok {
		return nil, false
	}
	return f.messages[i], true
}

// Open opens a message for reading. The caller closes the file, which stays readable when the message goes.
func (f *Folder) Open(uid uint32) (*os.File, error) {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	i, ok := f.find(uid)
	if !ok {
		return nil, fmt.Errorf("%w: uid %d", ErrNoMessage, uid)
	}
	file, err := os.Open(filepath.Join(f.dir, f.messages[i].file))
	if err != nil {
		return nil, fmt.Errorf("open message: %w", err)
	}
	return file, nil
}

func (f *Folder) find(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(f.messages, uid, func(m *Message, uid uint32) int { return int(int64(m.UID) - int64(uid)) })
}

// set puts new contents in place and wakes who waits for a change.
func (f *Folder) set(messages []*Message) {
	f.messages = messages
	f.generation++
	close(f.changed)
	f.changed = make(chan struct{})
}

// load reads the folder from disk unless that has been done. It gives UIDs to messages that have none and writes the
// UID list anew when it does not fit what is there. A process that died may have left names that are not durable yet;
// they become so first, since clients will be told of them, and a delivery of theirs is not done again.
func (f *Folder) load() error {
	if f.loaded {
		return nil
	}
	if err := errors.Join(makeMaildir(f.dir), wholefile.SyncDir(f.box.dir)); err != nil {
		return err
	}
	if err := f.readKeywords(); err != nil {
		return err
	}
	files, err := f.scan()
	if err != nil {
		return err
	}
	list, must, err := f.readList()
	if err != nil {
		return err
	}
	var messages []*Message
	outdated := false
	for _, e := range list.Entries {
		if m, ok := files[e.Base]; ok {
			m.UID = e.UID
			messages = append(messages, m)
			delete(files, e.Base)
		} else {
			outdated = true
		}
	}
	for _, m := range byAge(files) {
		m.UID = list.Next
		list.Next++
		messages = append(messages, m)
		must = true
	}
	list.Entries = nil
	f.list = list
	if must || outdated {
		if err := f.writeList(messages); err != nil && must {
			return err
		} else if err != nil {
			// on a full disk mail must stay readable, and removable
			f.box.log.Warn("UID list still names messages that are gone", "folder", f.name, "err", err)
		}
	}
	f.loaded = true
	f.set(messages)
	f.remember()
	return nil
}

// byAge orders messages as they came: by date, then by name.
func byAge(files map[string]*Message) []*Message {
	var list []*Message
	for _, m := range files {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b *Message) int {
		if c := a.Date.Compare(b.Date); c != 0 {
			return c
		}
		return strings.Compare(a.base, b.base)
	})
	return list
}

// scan finds the message files by their base names.
func (f *Folder) scan() (map[string]*Message, error) {
	files := map[string]*Message{}
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(filepath.Join(f.dir, sub))
		if err != nil {
			return nil, fmt.Errorf("scan folder: %w", err)
		}
		for _, e := range entries {
			name, ok := maildir.ParseName(e.Name())
			if !ok || !e.Type().IsRegular() {
				continue
			}
			st, err := e.Info()
			if err != nil {
				return nil, fmt.Errorf("scan folder: %w", err)
			}
			files[name.Base] = &Message{
				Size: st.Size(), Date: st.ModTime(), Marks: f.marks(name.Flags), base: name.Base, file: filepath.Join(sub, e.Name()),
			}
		}
	}
	return files, nil
}

// readList reads the UID list, or starts one. must says that it must be written.
func (f *Folder) readList() (list maildir.UIDList, must bool, err error) {
	path := filepath.Join(f.dir, maildir.UIDListFile)
	text, err := os.ReadFile(path)
	if err == nil {
		var torn bool
		list, torn, err = maildir.ParseUIDList(text)
		if err == nil {
			return list, torn, nil
		}
		f.box.log.Error("UID list is damaged, messages get new UIDs", "folder", f.name, "err", err)
		if err := os.Rename(path, path+".damaged-"+rand.Text()); err != nil {
			return list, false, fmt.Errorf("set damaged UID list aside: %w", err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return list, false, fmt.Errorf("read UID list: %w", err)
	}
	guid := make([]byte, 16)
	if _, err := rand.Read(guid); err != nil {
		return list, false, fmt.Errorf("make folder id: %w", err)
	}
	validity, err := f.box.nextValidity()
	return maildir.UIDList{Validity: validity, Next: 1, GUID: hex.EncodeToString(guid)}, true, err
}

func (f *Folder) writeList(messages []*Message) error {
	list := f.list
	for _, m := range messages {
		list.Entries = append(list.Entries, maildir.UIDEntry{UID: m.UID, Base: m.base})
	}
	return wholefile.PutDurably(filepath.Join(f.dir, maildir.UIDListFile), list.Bytes())
}

// record gives a UID to each base name, durably. After an error the folder is read again before its next use, which
// skips the UIDs that may have been written.
func (f *Folder) record(bases ...string) (first uint32, err error) {
	first = f.list.Next
	var b strings.Builder
	for i, base := range bases {
		b.WriteString(maildir.UIDEntry{UID: first + uint32(i), Base: base}.Line())
	}
	if err := appendFile(filepath.Join(f.dir, maildir.UIDListFile), b.String()); err != nil {
		f.loaded = false
		return 0, err
	}
	f.list.Next += uint32(len(bases))
	return first, nil
}

// usable reloads the folder after an error, and refuses when it has been deleted.
func (f *Folder) usable() error {
	if f.gone {
		return fmt.Errorf("%w: %s", ErrNoFolder, f.name)
	}
	return f.load()
}
