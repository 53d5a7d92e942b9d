package queue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"anycastle/internal/wholefile"
)

// Folders of a queue. A message is ours from when its envelope is in entryDir, and done once that is in doneDir.
const (
	bodyDir  = "body"
	entryDir = "entry"
	doneDir  = "done"
	asideDir = "set-aside" // what is damaged or belongs to nothing; nobody reads it
)

// doneTime is for how long an entry that is done is remembered, so that a late repetition is recognised.
const doneTime = 4 * time.Hour

// disk keeps a queue in a folder. It is the Keeper of one machine alone.
type disk struct {
	root string
	log  *slog.Logger
	step func(what string) error // nil; a test fails here, before a step
}

// openDisk makes the folders that are missing.
func openDisk(root string, log *slog.Logger) (*disk, error) {
	for _, dir := range []string{bodyDir, entryDir, doneDir, asideDir} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return nil, fmt.Errorf("make the queue's folders: %w", err)
		}
	}
	for _, dir := range []string{root, filepath.Dir(root)} {
		if err := wholefile.SyncDir(dir); err != nil {
			return nil, fmt.Errorf("make the queue's folders: %w", err)
		}
	}
	return &disk{root: root, log: log}, nil
}

func (d *disk) path(dir, name string) string { return filepath.Join(d.root, dir, name) }

// do takes one step.
func (d *disk) do(what string, f func() error) error {
	if d.step != nil {
		if err := d.step(what); err != nil {
			return err
		}
	}
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

var _ Keeper = (*disk)(nil)

// PutBody implements Keeper.
func (d *disk) PutBody(id string, body io.Reader) error {
	if err := d.putBody(id, body); err != nil {
		return errors.Join(err, d.Drop(id))
	}
	return nil
}

func (d *disk) putBody(id string, body io.Reader) error {
	var f *os.File
	steps := []struct {
		what string
		do   func() error
	}{
		{"make body", func() (err error) {
			f, err = os.OpenFile(d.path(bodyDir, id), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			return err
		}},
		{"write body", func() error {
			w := bufio.NewWriterSize(f, 64<<10)
			_, err := io.Copy(w, body)
			return errors.Join(err, w.Flush())
		}},
		{"sync body", func() error { return f.Sync() }},
		{"sync bodies", func() error { return wholefile.SyncDir(d.path(bodyDir, "")) }},
	}
	for _, s := range steps {
		if err := d.do(s.what, s.do); err != nil {
			if f != nil {
				err = errors.Join(err, f.Close())
			}
			return err
		}
	}
	return f.Close()
}

// Add implements Keeper.
func (d *disk) Add(id string, text []byte, _ string, _ int64) (kept bool, err error) {
	if err := d.Change(id, text); err != nil {
		return false, errors.Join(err, d.Drop(id))
	}
	return true, nil
}

// Change implements Keeper.
func (d *disk) Change(id string, text []byte) error {
	err := d.do("write envelope", func() error { return wholefile.PutDurably(d.path(entryDir, id), text) })
	if err == nil && d.step != nil {
		err = d.step("answer")
	}
	return err
}

// Drop implements Keeper. It removes first the envelope, so that no part of the message is ever sent.
func (d *disk) Drop(id string) error {
	for _, name := range []string{d.path(entryDir, id+".new"), d.path(entryDir, id), d.path(bodyDir, id)} {
		if err := d.do("drop", func() error { return removeIfThere(name) }); err != nil {
			return err
		}
	}
	return nil
}

// Finish implements Keeper.
func (d *disk) Finish(id string, remember bool) error {
	err := d.do("finish", func() error { return os.Rename(d.path(entryDir, id), d.path(doneDir, id)) })
	if errors.Is(err, os.ErrNotExist) {
		_, err = os.Lstat(d.path(doneDir, id))
	}
	if err != nil {
		return err
	}
	if err := d.do("remove body", func() error { return removeIfThere(d.path(bodyDir, id)) }); err != nil || remember {
		return err
	}
	return d.do("forget", func() error { return removeIfThere(d.path(doneDir, id)) })
}

// Sync implements Keeper. The disk has the names of all envelopes then.
func (d *disk) Sync() error {
	return d.do("sync envelopes", func() error { return wholefile.SyncDir(d.path(entryDir, "")) })
}

// Forget implements Keeper.
func (d *disk) Forget(ids ...string) error {
	var errs []error
	for _, id := range ids {
		errs = append(errs, removeIfThere(d.path(doneDir, id)))
	}
	return errors.Join(errs...)
}

// Prove implements Keeper: what is kept is on disk.
func (d *disk) Prove(...string) error { return nil }

// Serving implements Keeper: nobody else has the queue.
func (d *disk) Serving() error { return nil }

// OpenBody implements Keeper.
func (d *disk) OpenBody(_ context.Context, id string, size int64) (*os.File, error) {
	f, err := os.Open(d.path(bodyDir, id))
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size() != size {
		err = wrongSize(st.Size(), size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// wrongSize says that a body has another size than it must have.
func wrongSize(is, want int64) error { return fmt.Errorf("body has %d bytes, not %d", is, want) }

// SetAside implements Keeper. It moves all files of an id to where nobody reads them.
func (d *disk) SetAside(id string, why error) error {
	var errs []error
	for _, dir := range []string{bodyDir, entryDir} {
		from := d.path(dir, id)
		if _, err := os.Lstat(from); errors.Is(err, os.ErrNotExist) {
			continue
		}
		to := d.path(asideDir, id+"."+dir)
		for n := 1; ; n++ {
			if _, err := os.Lstat(to); errors.Is(err, os.ErrNotExist) {
				break
			}
			to = d.path(asideDir, fmt.Sprintf("%s.%s.%d", id, dir, n))
		}
		errs = append(errs, d.do("set aside", func() error { return os.Rename(from, to) }))
		d.log.Error("a file of the queue is set aside", "file", from, "now", to, "err", why)
	}
	return errors.Join(errs...)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
