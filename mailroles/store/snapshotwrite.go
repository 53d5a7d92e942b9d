package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/mailroles/maildir"
)

// locateAtOnce is for how many messages a mailbox is held up while their files are looked up.
const locateAtOnce = 256

// writer writes one snapshot.
type writer struct {
	s      *Store
	dir    string // of the snapshot, below the LUN's directory
	head   *LUNSnapshot
	method string
	index  map[string][]string // of the mailbox that is being written: files of the subvolume, by base name
}

// writeSnapshot gives a snapshot its bodies and its lists, and its name when the disk has them. After an error nothing of it is
// left, but for what the next start removes.
func (s *Store) writeSnapshot(ctx context.Context, c *capture) (err error) {
	part := filepath.Join(snapshotDir, c.head.ID+partSuffix)
	defer func() {
		if err != nil && s.Err() == nil {
			err = errors.Join(err, s.removeTree(part))
		}
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	began := time.Now()
	if err := s.removeTree(part); err != nil {
		return err
	}
	if err := s.files.mkdir(part); err != nil {
		return err
	}
	w := &writer{s: s, dir: part, head: &c.head, method: s.method()}
	if w.method == methodBtrfs {
		if err := s.files.subvolume("", filepath.Join(part, subvolumeName)); err != nil {
			return err
		}
	}
	if err := s.captureRest(c); err != nil {
		return err
	}
	for _, address := range slices.Sorted(maps.Keys(c.boxes)) {
		if err := w.mailbox(ctx, c.boxes[address]); err != nil {
			return fmt.Errorf("mailbox %s: %w", address, err)
		}
		delete(c.boxes, address) // its messages may leave memory
	}
	c.head.Method, c.head.Took = w.method, time.Since(began).Seconds()
	text, err := json.Marshal(c.head)
	if err != nil {
		return err
	}
	if err := s.files.write(filepath.Join(part, headFile), append(text, '\n')); err != nil {
		return err
	}
	if err := s.sync(); err != nil {
		return err
	}
	if err := s.files.rename(part, filepath.Join(snapshotDir, c.head.ID)); err != nil {
		return err
	}
	return s.files.syncDir(snapshotDir)
}

// mailbox writes one mailbox: its bodies, and then its manifest.
func (w *writer) mailbox(ctx context.Context, b *captured) error {
	if len(b.folders) == 0 {
		return nil // it is only just being made
	}
	if err := w.s.files.mkdir(filepath.Join(w.dir, b.address)); err != nil {
		return err
	}
	w.index = nil
	m := newSnapWriter(snapHead{Mailbox: b.address, Index: w.head.Index, Counter: b.counter, Subscribed: b.subscribed})
	for _, c := range b.folders {
		list, err := w.folder(ctx, b, c)
		if err != nil {
			return err
		}
		if err := m.folder(c, list); err != nil {
			return err
		}
		for _, k := range list {
			w.head.Messages++
			w.head.Bytes += k.Size
			if k.File == "" {
				w.head.Lacking++
			}
		}
	}
	w.head.Mailboxes++
	return w.s.files.write(filepath.Join(w.dir, b.address, snapManifest), m.bytes())
}

// folder gives the messages of a folder their bodies. Those that move meanwhile are looked for once more.
func (w *writer) folder(ctx context.Context, b *captured, c *contents) ([]kept, error) {
	if w.method != methodBtrfs && len(c.messages) > 0 {
		if err := w.s.files.mkdir(filepath.Join(w.dir, b.address, c.guid)); err != nil {
			return nil, err
		}
	}
	list := make([]kept, 0, len(c.messages))
	var again []int
	for part := range slices.Chunk(c.messages, locateAtOnce) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, f := range w.s.whereabouts(b, c, part) {
			if err := w.body(b, c, &f); err != nil {
				return nil, err
			}
			if f.File == "" {
				again = append(again, len(list))
			}
			list = append(list, f.kept)
		}
	}
	for _, i := range again {
		f := w.s.whereabouts(b, c, c.messages[i:i+1])[0]
		if err := w.body(b, c, &f); err != nil {
			return nil, err
		}
		list[i] = f.kept
	}
	return list, nil
}

// body gives a message its body, and says where that is. A body that is not here is no error.
func (w *writer) body(b *captured, c *contents, f *found) error {
	if w.method == methodBtrfs {
		return w.inSubvolume(b, c, f)
	}
	to := filepath.Join(b.address, c.guid, uidName(f.UID))
	for from := range w.s.places(f, c, b.address) {
		err := w.s.keepBody(w.method, from, filepath.Join(w.dir, to))
		if isGone(err) {
			continue
		}
		if err != nil {
			return err
		}
		f.File = inPlace
		return w.sum(f, to)
	}
	return nil
}

// places gives those at which the body of a message can be, each when it is asked for. They are in the order in which a body goes from
// one to the next, so that one which is on its way is met: a deleted folder is in its grave until its messages are retired.
func (s *Store) places(f *found, c *contents, address string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if f.path != "" && !yield(f.path) || !yield(bodyPath(f.Base)) {
			return
		}
		if path, ok := s.findBuried("", c.guid, f.Base); ok && !yield(path) {
			return
		}
		if path, ok := s.findExpunged(f.body(address)); ok {
			yield(path)
		}
	}
}

// findBuried gives the file of a message in the grave of its folder, in the tree itself or in one like it below the LUN's directory.
func (s *Store) findBuried(tree, guid, base string) (path string, ok bool) {
	for _, sub := range []string{"new", "cur"} {
		dir := filepath.Join(tree, grave(guid), sub)
		entries, err := os.ReadDir(s.files.at(dir))
		if err != nil {
			continue // as a rule there is no grave
		}
		for _, e := range entries {
			if name, ok := maildir.ParseName(e.Name()); ok && name.Base == base {
				return filepath.Join(dir, e.Name()), true
			}
		}
	}
	return "", false
}

// keepBody gives a snapshot a file. One that has as many names as it can have is copied.
func (s *Store) keepBody(method, from, to string) error {
	if method == methodReflink {
		err := s.files.clone(from, to)
		if !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	err := s.files.link(from, to)
	if errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EPERM) {
		return s.files.copy(from, to)
	}
	return err
}

// sum finds the sum of a message out that the store does not know.
func (w *writer) sum(f *found, file string) (err error) {
	if f.Sum == "" {
		f.Sum, err = w.s.sumOf(filepath.Join(w.dir, file))
	}
	return err
}

// inSubvolume finds a message's file in the subvolume, which does not change any more.
func (w *writer) inSubvolume(b *captured, c *contents, f *found) error {
	if w.index == nil {
		if err := w.readIndex(b); err != nil {
			return err
		}
	}
	files := w.index[f.Base]
	if len(files) == 0 {
		body := filepath.Join(subvolumeName, bodyPath(f.Base))
		if _, err := os.Lstat(w.s.files.at(filepath.Join(w.dir, body))); err == nil {
			files = []string{body}
		} else if path, ok := w.s.findBuried(filepath.Join(w.dir, subvolumeName), c.guid, f.Base); ok {
			path, err := filepath.Rel(w.dir, path)
			if err != nil {
				return err
			}
			files = []string{path}
		} else if path, ok := w.s.findExpunged(f.body(b.address)); ok {
			files = []string{filepath.Join(subvolumeName, path)} // there as well, unless it went after the subvolume was made
			if _, err := os.Lstat(w.s.files.at(filepath.Join(w.dir, files[0]))); err != nil {
				files = nil
			}
		}
	}
	if len(files) == 0 {
		return nil
	}
	f.File = files[0]
	for _, file := range files { // others can have named two messages alike, in two folders
		if filepath.Dir(filepath.Dir(file)) == filepath.Join(subvolumeName, c.dir(b.address)) {
			f.File = file
		}
	}
	return w.sum(f, f.File)
}

// readIndex finds the files of a mailbox in the subvolume.
func (w *writer) readIndex(b *captured) error {
	w.index = map[string][]string{}
	box := filepath.Join(subvolumeName, b.address)
	entries, err := os.ReadDir(w.s.files.at(filepath.Join(w.dir, box)))
	if err != nil {
		if isGone(err) {
			return nil
		}
		return err
	}
	dirs := []string{box}
	for _, e := range entries {
		if _, ok := maildir.FolderName(e.Name()); ok && e.IsDir() {
			dirs = append(dirs, filepath.Join(box, e.Name()))
		}
	}
	for _, dir := range dirs {
		for _, sub := range []string{"new", "cur"} {
			files, err := os.ReadDir(w.s.files.at(filepath.Join(w.dir, dir, sub)))
			if err != nil && !isGone(err) {
				return err
			}
			for _, e := range files {
				if name, ok := maildir.ParseName(e.Name()); ok {
					w.index[name.Base] = append(w.index[name.Base], filepath.Join(dir, sub, e.Name()))
				}
			}
		}
	}
	return nil
}
