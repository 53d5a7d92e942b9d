package queue

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// loaders is how many files are read at a time when a queue is opened.
const loaders = 8

// load fills the queue with what is kept.
func (q *Queue) load(now time.Time) error {
	var mu sync.Mutex
	var entries []*entry
	aside, err := q.keep.Load(func(id string, text []byte, body int64) error {
		e, err := readEnvelope(id, text)
		if err == nil && body != e.Size && !e.over() { // else the body may be gone already
			err = wrongSize(body, e.Size)
			if body < 0 {
				err = errors.New("it has no body")
			}
		}
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			entries = append(entries, e)
		}
		return err
	}, func(id string, text []byte, since time.Time) bool {
		e, err := readEnvelope(id, text)
		if err != nil || e.Tx == "" || now.After(since.Add(doneTime)) {
			return false // one that cannot be read is no loss: its message was delivered
		}
		q.records = append(q.records, record{entry: e, since: since})
		return true
	})
	if err != nil {
		return fmt.Errorf("read the queue: %w", err)
	}
	q.aside = aside
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.ID, b.ID) })
	for _, e := range entries {
		q.add(e)
	}
	for _, r := range q.records {
		q.memory.learn(r.entry, true)
	}
	slices.SortFunc(q.records, func(a, b record) int { return a.since.Compare(b.since) })
	q.opt.Log.Info("queue is open", "entries", len(entries), "set_aside", aside)
	return nil
}

func readEnvelope(id string, text []byte) (*entry, error) {
	e, err := decodeEntry(text)
	if err == nil && e.ID != id {
		err = errors.New("it is another's envelope")
	}
	return e, err
}

// Load implements Keeper. What a crash left is put aside as well: bodies without an envelope and files half written. Nobody
// was told that these are taken. What was done is tidied up.
func (d *disk) Load(entry func(id string, text []byte, body int64) error, done func(id string, text []byte, since time.Time) bool) (aside int, err error) {
	bodies, err := names(d.path(bodyDir, ""))
	if err != nil {
		return 0, err
	}
	over, err := names(d.path(doneDir, ""))
	if err != nil {
		return 0, err
	}
	envelopes, err := names(d.path(entryDir, ""))
	if err != nil {
		return 0, err
	}
	for id := range over {
		if err := d.loadDone(id, done, envelopes, bodies); err != nil {
			return 0, err
		}
	}
	if aside, err = d.loadEntries(entry, envelopes, bodies); err != nil {
		return 0, err
	}
	for id := range bodies {
		aside++
		if err := d.SetAside(id, errors.New("a body without an envelope: its message was not taken")); err != nil {
			return 0, err
		}
	}
	return aside, nil
}

// names gives the files of a folder.
func names(dir string) (map[string]bool, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	set := make(map[string]bool, len(files))
	for _, f := range files {
		set[f.Name()] = true
	}
	return set, nil
}

// loadDone ends what was done but not yet tidied up, and tells of it.
func (d *disk) loadDone(id string, done func(string, []byte, time.Time) bool, envelopes, bodies map[string]bool) error {
	if envelopes[id] { // a rename without power: the one that is done is as new
		if err := os.Remove(d.path(entryDir, id)); err != nil {
			return err
		}
		delete(envelopes, id)
	}
	if err := removeIfThere(d.path(bodyDir, id)); err != nil {
		return err
	}
	delete(bodies, id)
	text, since, err := d.readText(doneDir, id)
	if lacks(err) {
		return err
	}
	if err != nil || !done(id, text, since) {
		return removeIfThere(d.path(doneDir, id))
	}
	return nil
}

// readText reads an envelope, and when it was written.
func (d *disk) readText(dir, id string) ([]byte, time.Time, error) {
	st, err := os.Stat(d.path(dir, id))
	if err != nil {
		return nil, time.Time{}, err
	}
	if st.Size() > maxEntry {
		return nil, time.Time{}, errors.New("it is too large")
	}
	text, err := os.ReadFile(d.path(dir, id))
	return text, st.ModTime(), err
}

// loadEntries reads the envelopes, some at a time, and takes their bodies from the set.
func (d *disk) loadEntries(entry func(string, []byte, int64) error, envelopes, bodies map[string]bool) (int, error) {
	work := make(chan string)
	var mu sync.Mutex
	var errs []error
	var aside atomic.Int64
	var wg sync.WaitGroup
	for range loaders {
		wg.Go(func() {
			for id := range work {
				err := d.loadEntry(id, entry)
				if err != nil && !lacks(err) {
					aside.Add(1)
					err = d.SetAside(id, err)
				}
				mu.Lock()
				errs = append(errs, err)
				delete(bodies, id)
				mu.Unlock()
			}
		})
	}
	for id := range envelopes {
		work <- id
	}
	close(work)
	wg.Wait()
	return int(aside.Load()), errors.Join(errs...)
}

// lacks says that this process lacks room or a right, so that the file need not be damaged.
func lacks(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) ||
		errors.Is(err, os.ErrPermission)
}

// loadEntry reads one envelope, looks for its body, and tells of both.
func (d *disk) loadEntry(id string, entry func(string, []byte, int64) error) error {
	if strings.HasSuffix(id, ".new") {
		return errors.New("an envelope half written: its message was not taken, or the one of before stands")
	}
	text, _, err := d.readText(entryDir, id)
	if err != nil {
		return err
	}
	body := int64(-1)
	f, err := os.Open(d.path(bodyDir, id)) // which it must be possible to read
	switch {
	case err == nil:
		st, serr := f.Stat()
		if err := errors.Join(serr, f.Close()); err != nil {
			return err
		}
		body = st.Size()
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	return entry(id, text, body)
}
