package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"anycastle/internal/wholefile"
	"anycastle/mailroles/maildir"
)

// txMemory is how long a transaction id is remembered.
const txMemory = time.Hour

// Incoming is a message on its way into a folder.
type Incoming struct {
	Body     io.Reader
	Size     int64         // of Body, in bytes; a Body of another size is ErrTruncated and is not stored
	Flags    maildir.Flags // as the client gave them
	Keywords []string      // in any order
	Date     time.Time     // INTERNALDATE; now when zero
	Folder   string        // of a delivery, made when missing; INBOX when empty
	Tx       string        // transaction id of a delivery, 32 lower-case hexadecimal digits; empty for none
}

// Place is where a message went.
type Place struct{ Validity, UID uint32 }

// Deliver puts a new message into INBOX or another folder, durably. again says that the transaction id has been
// delivered before, and that nothing was done. The error is ErrQuota when the mailbox has no room.
func (m *Mailbox) Deliver(in Incoming) (again bool, err error) {
	if in.Folder == "" {
		in.Folder = maildir.Inbox
	}
	f, err := m.Folder(in.Folder)
	if errors.Is(err, ErrNoFolder) {
		if err := m.Create(in.Folder); err != nil && !errors.Is(err, ErrExists) {
			return false, err
		}
		f, err = m.Folder(in.Folder)
	}
	if err != nil {
		return false, err
	}
	_, again, err = f.add(in, "new")
	return again, err
}

// Append puts a message into a folder, durably, and says where it is. The error is ErrQuota when the mailbox has no
// room, ErrKeywords when the folder has none for a new keyword, or maildir.ErrKeywordName.
func (f *Folder) Append(in Incoming) (Place, error) {
	place, _, err := f.add(in, "cur")
	return place, err
}

// add writes the message to tmp without the lock, since that takes longest, and moves it to new or cur under it.
func (f *Folder) add(in Incoming, sub string) (place Place, again bool, err error) {
	if in.Date.IsZero() {
		in.Date = f.box.store.now()
	}
	if err := f.box.Fits(in.Size); err != nil {
		return Place{}, false, err
	}
	base := f.box.store.base(in.Tx, in.Size)
	tmp, err := f.writeTmp(base, in)
	if err != nil {
		return Place{}, false, err
	}
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	if err := f.usable(); err != nil {
		return Place{}, false, errors.Join(err, removeIfThere(tmp))
	}
	if f.box.delivered(in.Tx) {
		return Place{}, true, os.Remove(tmp)
	}
	uid, err := uint32(0), f.box.fits(in.Size, 1)
	if err == nil {
		err = f.know(in.Keywords)
	}
	if err == nil {
		uid, err = f.record(base)
	}
	if err != nil {
		return Place{}, false, errors.Join(err, os.Remove(tmp))
	}
	msg := &Message{UID: uid, Size: in.Size, Date: in.Date, base: base, file: filepath.Join(sub, base)}
	if msg.Marks = f.tidy(Marks{Flags: in.Flags, Keywords: in.Keywords}); sub == "cur" || !msg.Equal(Marks{}) {
		sub = "cur"
		msg.file = f.inCur(msg)
	}
	if err := os.Rename(tmp, filepath.Join(f.dir, msg.file)); err != nil {
		return Place{}, false, errors.Join(fmt.Errorf("place message: %w", err), removeIfThere(tmp))
	}
	if err := wholefile.SyncDir(filepath.Join(f.dir, sub)); err != nil {
		return Place{}, false, errors.Join(err, os.Remove(filepath.Join(f.dir, msg.file)))
	}
	f.set(append(f.messages, msg))
	if in.Tx != "" {
		f.box.recent[in.Tx] = f.box.store.now()
	}
	return Place{Validity: f.list.Validity, UID: uid}, false, nil
}

func (f *Folder) writeTmp(base string, in Incoming) (string, error) {
	f.box.mu.Lock()
	dir := f.dir // a rename of the folder may change it
	f.box.mu.Unlock()
	tmp := filepath.Join(dir, "tmp", base)
	return tmp, writeMessage(tmp, in.Body, in.Size, in.Date)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// delivered reports whether the transaction was done within txMemory, and forgets older ones.
func (m *Mailbox) delivered(tx string) bool {
	old := m.store.now().Add(-txMemory)
	for id, at := range m.recent {
		if at.Before(old) {
			delete(m.recent, id)
		}
	}
	_, ok := m.recent[tx]
	return ok
}

// remember learns the transaction ids of the messages that load found.
func (f *Folder) remember() {
	for _, msg := range f.messages {
		if at, tx, ok := maildir.Delivered(msg.base); ok {
			f.box.recent[tx] = at
		}
	}
}
