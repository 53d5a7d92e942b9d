package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"anycastle/internal/wholefile"
	"anycastle/mailroles/maildir"
)

// SetFlags gives each of the messages the marks that change makes of its present ones, durably. UIDs that are not
// there are passed over. change may be called more than once for a message, and must not keep or alter what it is
// given. The error is ErrKeywords when the folder has no room for a new keyword, or maildir.ErrKeywordName; nothing is
// changed then. After another error some of the messages may have been changed.
func (f *Folder) SetFlags(uids []uint32, change func(Marks) Marks) error {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	if err := f.usable(); err != nil {
		return err
	}
	messages := slices.Clone(f.messages)
	dirs := map[string]bool{}
	var keywords []string
	for _, uid := range uids {
		if i, ok := f.find(uid); ok {
			keywords = append(keywords, change(messages[i].Marks).Keywords...)
		}
	}
	err := f.know(keywords)
	if err != nil {
		return err
	}
	for _, uid := range uids {
		i, ok := f.find(uid)
		if !ok {
			continue
		}
		next := *messages[i]
		if next.Marks = f.tidy(change(next.Marks)); next.Marks.Equal(messages[i].Marks) {
			continue
		}
		next.file = f.inCur(&next)
		if err = os.Rename(filepath.Join(f.dir, messages[i].file), filepath.Join(f.dir, next.file)); err != nil {
			err = fmt.Errorf("set flags: %w", err)
			break
		}
		dirs["cur"], dirs[filepath.Dir(messages[i].file)] = true, true
		messages[i] = &next
	}
	if len(dirs) > 0 {
		f.set(messages)
	}
	return errors.Join(err, f.syncSubs(dirs))
}

// syncSubs syncs cur before new: a message that moves from new to cur is then never in neither.
func (f *Folder) syncSubs(dirs map[string]bool) error {
	for _, sub := range []string{"cur", "new"} {
		if dirs[sub] {
			if err := wholefile.SyncDir(filepath.Join(f.dir, sub)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Expunge removes the messages that are flagged as deleted and that which chooses, durably.
func (f *Folder) Expunge(which func(uid uint32) bool) error {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	if err := f.usable(); err != nil {
		return err
	}
	return f.remove(func(m *Message) bool { return m.Flags&maildir.Deleted != 0 && which(m.UID) })
}

func (f *Folder) remove(which func(*Message) bool) error {
	var keep []*Message
	dirs := map[string]bool{}
	var errs []error
	for _, m := range f.messages {
		if !which(m) {
			keep = append(keep, m)
			continue
		}
		if err := os.Remove(filepath.Join(f.dir, m.file)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("expunge: %w", err))
			keep = append(keep, m)
			continue
		}
		dirs[filepath.Dir(m.file)] = true
	}
	if len(dirs) > 0 {
		f.set(keep)
	}
	return errors.Join(append(errs, f.syncSubs(dirs))...)
}

// Pair is a message's UID before and after it was copied.
type Pair struct{ From, To uint32 }

// Copy copies messages into a folder of the same mailbox: all of them, or none when there is an error. UIDs that are
// not there are passed over. Errors are those of Folder, ErrQuota and ErrKeywords.
func (f *Folder) Copy(uids []uint32, dest string) (validity uint32, pairs []Pair, err error) {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	return f.copy(uids, dest, true)
}

// Move is Copy followed by the removal of what was copied. A crash in between leaves messages in both folders.
func (f *Folder) Move(uids []uint32, dest string) (validity uint32, pairs []Pair, err error) {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	if validity, pairs, err = f.copy(uids, dest, false); err != nil {
		return 0, nil, err
	}
	return validity, pairs, f.remove(func(m *Message) bool {
		return slices.ContainsFunc(pairs, func(p Pair) bool { return p.From == m.UID })
	})
}

func (f *Folder) copy(uids []uint32, dest string, grows bool) (uint32, []Pair, error) {
	if err := f.usable(); err != nil {
		return 0, nil, err
	}
	to, err := f.box.folder(dest)
	if err != nil {
		return 0, nil, err
	}
	var from, made []*Message
	var bases []string
	var size int64
	for _, uid := range uids {
		if i, ok := f.find(uid); ok {
			size += f.messages[i].Size
			if err := to.know(f.messages[i].Keywords); err != nil {
				return 0, nil, err
			}
		}
	}
	if err := f.box.fits(size, int64(len(uids))); grows && err != nil {
		return 0, nil, err
	}
	for _, uid := range uids {
		if i, ok := f.find(uid); ok {
			src := f.messages[i]
			dup := *src
			dup.base = f.box.store.base("", src.Size)
			dup.file = to.inCur(&dup)
			from, made, bases = append(from, src), append(made, &dup), append(bases, dup.base)
		}
	}
	if len(made) == 0 {
		return to.list.Validity, nil, nil
	}
	first, err := to.record(bases...)
	if err != nil {
		return 0, nil, err
	}
	var pairs []Pair
	for i, dup := range made {
		dup.UID = first + uint32(i)
		pairs = append(pairs, Pair{From: from[i].UID, To: dup.UID})
	}
	if err := f.link(from, made, to); err != nil {
		return 0, nil, err
	}
	to.set(append(to.messages, made...))
	return to.list.Validity, pairs, nil
}

// link gives each message a second name, as its bytes never change. On an error no new name is left.
func (f *Folder) link(from, made []*Message, to *Folder) (err error) {
	done := 0
	for i, dup := range made {
		if err = os.Link(filepath.Join(f.dir, from[i].file), filepath.Join(to.dir, dup.file)); err != nil {
			break
		}
		done++
	}
	if err == nil {
		err = wholefile.SyncDir(filepath.Join(to.dir, "cur"))
	}
	if err == nil {
		return nil
	}
	errs := []error{fmt.Errorf("copy message: %w", err)}
	for _, undo := range made[:done] {
		errs = append(errs, os.Remove(filepath.Join(to.dir, undo.file)))
	}
	return errors.Join(errs...)
}
