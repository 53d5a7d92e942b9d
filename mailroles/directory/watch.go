package directory

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// pollEvery is how often the mailboxes file is looked at. A change is read when the file has stood for that long.
const pollEvery = time.Second

// tick is more than the time in which two changes of a file may get the same time stamp.
const tick = 100 * time.Millisecond

// watched is a mailboxes file that is read again when it has changed.
type watched struct {
	path string // empty: the text was in memory, and nothing is read again
	luns []string
	log  *slog.Logger

	table atomic.Pointer[table]

	reading sync.Mutex // one reads at a time

	mu      sync.Mutex
	changed chan struct{} // closed when another table takes its place
	read    mark          // of the file that the table is of
	seen    mark          // at the last look
	refused mark          // of a file that was tried and is wrong
	status  Status
}

// mark tells one version of a file from another.
type mark struct {
	changed time.Time
	size    int64
	inode   uint64
}

func look(path string) (mark, error) {
	info, err := os.Stat(path)
	if err != nil {
		return mark{size: -1}, err
	}
	m := mark{changed: info.ModTime(), size: info.Size()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		m.inode = sys.Ino
	}
	return m, nil
}

func fixed(name string, t *table) *watched {
	w := &watched{changed: make(chan struct{}), log: slog.New(slog.DiscardHandler)}
	w.table.Store(t)
	w.status = Status{Source: name, Counts: t.counts, ReadAt: time.Now().UTC()}
	return w
}

// watch reads the file for the first time.
func watch(path string, luns []string, log *slog.Logger) (*watched, error) {
	w := &watched{path: path, luns: luns, log: log.With("file", path), changed: make(chan struct{})}
	w.status.Source = path
	return w, w.reload()
}

func (w *watched) now() *table { return w.table.Load() }

// reload reads the file now. When it is wrong, or written to meanwhile, what was read before stays.
func (w *watched) reload() error {
	if w.path == "" {
		return nil
	}
	w.reading.Lock()
	defer w.reading.Unlock()
	before, err := look(w.path)
	var t *table
	if err == nil {
		t, err = loadTable(w.path, w.luns)
	}
	if after, _ := look(w.path); err == nil && after != before {
		err = fmt.Errorf("%s was written to while it was read; write it elsewhere and move it there", w.path)
		before = mark{} // nothing is known to be wrong with it
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.refused, w.status.Error = before, err.Error()
		return fmt.Errorf("read mailboxes file: %w", err)
	}
	w.table.Store(t)
	w.read, w.refused = before, mark{}
	if age := time.Since(before.changed); age >= 0 && age < tick {
		w.read = mark{} // a change right after may have left the same mark: read once more
	}
	w.status.Error, w.status.Counts, w.status.ReadAt = "", t.counts, time.Now().UTC()
	close(w.changed)
	w.changed = make(chan struct{})
	return nil
}

// run looks at the file until ctx ends.
func (w *watched) run(ctx context.Context) {
	if w.path == "" {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.poll()
		}
	}
}

// poll reads the file when it has changed, and has not changed since the last poll.
func (w *watched) poll() {
	is, err := look(w.path)
	w.mu.Lock()
	stands, known := is == w.seen, is == w.read || is == w.refused
	w.seen = is
	if err == nil && is == w.read && w.status.Error != "" {
		w.status.Error = "" // what is in use is there again
	}
	if err != nil {
		w.status.Error = err.Error()
	}
	w.mu.Unlock()
	switch {
	case !stands || known:
	case err != nil:
		w.mu.Lock()
		w.refused = is
		w.mu.Unlock()
		w.log.Error("mailboxes file is gone; what was read before stays in use", "err", err)
	default:
		if err := w.reload(); err != nil {
			w.log.Error("mailboxes file has changed and is refused; what was read before stays in use", "err", err)
			return
		}
		counts := w.now().counts
		w.log.Info("mailboxes file read again", "mailboxes", counts.Mailboxes, "aliases", counts.Aliases, "groups", counts.Groups)
	}
}
