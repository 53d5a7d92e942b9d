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
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/mailroles/maildir"
)

// expungedDir has the bodies of messages that are gone, by the unique part of their names, in a directory for each hour in
// which they went. They can be restored from there, until the hour is older than the log is kept.
const expungedDir = ".expunged"

// hourForm names the directory of an hour, in UTC. The names sort as the hours do.
const hourForm = "2006010215"

// DefaultKeep is how long the bodies of messages that are gone are kept, and with them the log.
const DefaultKeep = 40 * time.Hour

// A file system is short of room when less than the smaller of these is free: a part of it, and bytes.
const (
	shortPart  = 20
	shortBytes = 256 << 20
)

// retireRoom is how many bodies at most an operation removes to make room, for each that it retires.
const retireRoom = 8

// retireAtOnce is how many messages of a deleted folder are retired while other operations of a replica wait.
const retireAtOnce = 1000

// expunged is what the store knows of bodies that it keeps for a while.
type expunged struct {
	keep  time.Duration
	early atomic.Uint64 // removed before their time
	held  atomic.Bool   // one of those still takes room, as a snapshot has it

	making  sync.Mutex // held by who makes room
	seeking sync.Mutex // held by who looks through all that is kept
}

// retire takes the file of a message that is gone out of the tree, and keeps it for a while. One that is not there is no
// error. A removal must be able to free a full disk: where there is no room even for another name, the file is removed.
func (s *Store) retire(path, base string) error {
	err := s.setDown(path, maildir.Unique(base))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = s.files.remove(path)
		s.expunged.early.Add(1)
	}
	if err == nil && s.short() {
		s.makeRoom(retireRoom)
	}
	return err
}

// setDown gives a file its place among those that are kept.
func (s *Store) setDown(path, unique string) error {
	if unique == "" {
		return s.files.remove(path)
	}
	hour := filepath.Join(expungedDir, s.now().UTC().Format(hourForm))
	err := s.files.rename(path, filepath.Join(hour, unique))
	if errors.Is(err, fs.ErrNotExist) { // the file, or the directory of the hour
		if _, lost := os.Lstat(s.files.at(path)); errors.Is(lost, fs.ErrNotExist) {
			return nil
		}
		if err = s.files.mkdir(hour); err == nil {
			err = s.files.rename(path, filepath.Join(hour, unique))
		}
	}
	if err != nil {
		return err
	}
	// a rename between two names of one file, as after a restore, does nothing
	if err := os.Remove(s.files.at(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// bury renames a file or a folder. Where it goes to the deleted folders, the one of the same GUID that was there, as it had
// come back, makes way.
func (s *Store) bury(from, to string) error {
	err := s.files.rename(from, to)
	if filepath.Dir(to) == trashDir && (errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrExist)) {
		if err = s.retireFolder(to); err == nil {
			err = s.files.rename(from, to)
		}
	}
	return err
}

// retireFolder takes what is left of a deleted folder out of the tree, and keeps its messages for a while.
func (s *Store) retireFolder(path string) error {
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(s.files.at(filepath.Join(path, sub)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read deleted folder: %w", err)
		}
		for _, e := range entries {
			name, ok := maildir.ParseName(e.Name())
			if !ok || !e.Type().IsRegular() {
				continue
			}
			if err := s.retire(filepath.Join(path, sub, e.Name()), name.Base); err != nil {
				return fmt.Errorf("keep message of deleted folder: %w", err)
			}
		}
	}
	return s.files.removeAll(path)
}

// deletedFolder is what must be known of a folder that was deleted, if it is to come back with its UIDs: those that it gave
// after a snapshot are never given again.
type deletedFolder struct {
	GUID     string `json:"guid"`
	Name     string `json:"name"`
	Validity uint32 `json:"validity"`
	Next     uint32 `json:"next"`
}

const deletedSuffix = ".folder"

// rememberFolder notes a folder that is being deleted. Without it, the folder comes back under another UIDVALIDITY.
func (s *Store) rememberFolder(c *contents) error {
	text, err := json.Marshal(deletedFolder{c.guid, c.name, c.validity, c.next})
	if err != nil {
		return err
	}
	hour := filepath.Join(expungedDir, s.now().UTC().Format(hourForm))
	if err := s.files.mkdir(hour); err != nil {
		return err
	}
	return s.files.write(filepath.Join(hour, c.guid+deletedSuffix), text)
}

// recallFolder gives what is known of a folder that was deleted.
func (s *Store) recallFolder(guid string) (d deletedFolder, ok bool) {
	for _, hour := range s.hours() { // one that came back may have been deleted once more
		text, err := s.readFile(filepath.Join(expungedDir, hour, guid+deletedSuffix))
		var one deletedFolder
		if err == nil && json.Unmarshal(text, &one) == nil && one.GUID == guid && one.Next >= d.Next {
			d, ok = one, true
		}
	}
	return d, ok
}

// hours lists the directories of hours, the oldest first.
func (s *Store) hours() []string {
	entries, err := os.ReadDir(s.files.at(expungedDir))
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		if _, err := time.Parse(hourForm, e.Name()); err == nil && e.IsDir() {
			list = append(list, e.Name())
		}
	}
	slices.SortFunc(list, cmp.Compare[string])
	return list
}

// findExpunged gives the file of a body that is kept. Its text may be another's, as the tools of others may name files alike:
// who needs to know compares the sum.
func (s *Store) findExpunged(b Body) (path string, ok bool) {
	hours := s.hours()
	for _, hour := range slices.Backward(hours) {
		path = filepath.Join(expungedDir, hour, b.Name)
		if st, err := os.Lstat(s.files.at(path)); err == nil && st.Mode().IsRegular() && st.Size() == b.Size {
			return path, true
		}
	}
	return "", false
}

// kept finds a body among those that are kept, by its name, below the LUN's directory.
func (s *Store) kept(b Body) (path string, ok bool) {
	if path, ok = s.findExpunged(b); ok && b.Sum != "" {
		sum, err := s.sumOf(path)
		ok = err == nil && sum == b.Sum
	}
	return path, ok
}

// short tells whether the file system is short of room.
func (s *Store) short() bool {
	var st unix.Statfs_t
	if err := unix.Statfs(s.root, &st); err != nil {
		return false
	}
	return st.Bavail*uint64(st.Bsize) < min(st.Blocks*uint64(st.Bsize)/shortPart, shortBytes)
}

// makeRoom removes bodies that are kept, the oldest first, while there is little room; at most as many as said. It tells how
// many. One makes room at a time.
func (s *Store) makeRoom(most int) int {
	if !s.expunged.making.TryLock() {
		return 0
	}
	defer s.expunged.making.Unlock()
	removed := 0
	for _, hour := range s.hours() {
		n, err := s.thin(hour, most-removed)
		removed += n
		if err != nil {
			s.log.Warn("cannot make room", "hour", hour, "err", err)
			return removed
		}
		if removed >= most || !s.short() {
			break
		}
	}
	if removed > 0 {
		s.expunged.early.Add(uint64(removed))
		s.log.Warn("bodies of expunged messages are removed before their time, as the disk is nearly full", "bodies", removed)
	}
	return removed
}

// thin removes bodies of an hour, and its directory with the last.
func (s *Store) thin(hour string, most int) (removed int, err error) {
	dir, err := os.Open(s.files.at(filepath.Join(expungedDir, hour)))
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	for removed < most && s.short() {
		names, _ := dir.Readdirnames(1)
		if len(names) == 0 {
			if err := os.Remove(dir.Name()); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
				return removed, err
			}
			return removed, nil
		}
		path := filepath.Join(expungedDir, hour, names[0])
		if st, err := os.Lstat(s.files.at(path)); err == nil {
			if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink > 1 {
				s.expunged.held.Store(true)
			}
		}
		if err := s.files.remove(path); err != nil {
			return removed, err
		}
		if !strings.HasSuffix(path, deletedSuffix) {
			removed++
		}
	}
	return removed, nil
}

// tendExpunged removes what is too old, and makes room while there is little.
func (s *Store) tendExpunged(ctx context.Context) {
	oldest := s.now().UTC().Add(-s.expunged.keep - time.Hour).Format(hourForm)
	for _, hour := range s.hours() {
		if hour >= oldest || ctx.Err() != nil {
			break
		}
		if err := s.files.removeAll(filepath.Join(expungedDir, hour)); err != nil {
			s.log.Warn("cannot remove expunged messages", "hour", hour, "err", err)
			return
		}
	}
	for ctx.Err() == nil && s.short() && s.makeRoom(1000) > 0 {
	}
}
