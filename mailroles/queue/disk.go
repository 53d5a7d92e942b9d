package queue

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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

// disk is the files of a queue.
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

// putBody writes a body durably, and tells what is in it.
func (d *disk) putBody(id string, body io.Reader) (*content, error) {
	var f *os.File
	c := &content{}
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
			_, err := io.Copy(io.MultiWriter(w, c), body)
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
			return nil, err
		}
	}
	return c, f.Close()
}

// putEntry writes an envelope durably.
func (d *disk) putEntry(id string, text []byte) error {
	err := d.do("write envelope", func() error { return wholefile.PutDurably(d.path(entryDir, id), text) })
	if err == nil && d.step != nil {
		err = d.step("answer")
	}
	return err
}

// drop removes what a message left that is not taken: first its envelope, so that no part of it is ever sent.
func (d *disk) drop(id string) error {
	for _, name := range []string{d.path(entryDir, id+".new"), d.path(entryDir, id), d.path(bodyDir, id)} {
		if err := d.do("drop", func() error { return removeIfThere(name) }); err != nil {
			return err
		}
	}
	return nil
}

// finish puts the envelope of an entry that is done away, and removes its body. remember keeps the envelope for doneTime. What
// failed half way goes on where it ended.
func (d *disk) finish(id string, remember bool) error {
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

// syncEntries waits until the disk has the names of all envelopes.
func (d *disk) syncEntries() error {
	return d.do("sync envelopes", func() error { return wholefile.SyncDir(d.path(entryDir, "")) })
}

// openBody opens the body of an entry, which must have its size.
func (d *disk) openBody(e *entry) (*os.File, error) {
	f, err := os.Open(d.path(bodyDir, e.ID))
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size() != e.Size {
		err = fmt.Errorf("body has %d bytes, not %d", st.Size(), e.Size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// setAside moves all files of an id to where nobody reads them, and reports it. It is for a person to look at.
func (d *disk) setAside(id string, why error) error {
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

// content is what a body has in it. It is an io.Writer that looks at what passes.
type content struct {
	size     int64
	eightBit bool // anywhere
	utf8Head bool // bytes above 127 in the header
	hops     int  // Received fields

	inBody bool
	line   []byte // the begin of the present line of the header
	length int    // of that line without its end
}

const received = "received:"

// Write implements io.Writer.
func (c *content) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	for i, b := range p {
		if c.inBody && c.eightBit {
			break
		}
		c.eightBit = c.eightBit || b > 127
		if !c.inBody {
			c.header(p[i])
		}
	}
	return len(p), nil
}

// header looks at one byte of the header.
func (c *content) header(b byte) {
	c.utf8Head = c.utf8Head || b > 127
	switch {
	case b == '\n':
		c.inBody = c.length == 0
		c.line, c.length = c.line[:0], 0
	case b != '\r':
		c.length++
		if c.length <= len(received) {
			c.line = append(c.line, b)
		}
		if c.length == len(received) && strings.EqualFold(string(c.line), received) {
			c.hops++
		}
	}
}
