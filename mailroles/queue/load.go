package queue

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// loaders is how many files are read at a time when a queue is opened.
const loaders = 8

// found is what a queue's folders hold.
type found struct {
	entries []*entry
	done    map[string]time.Time // ids that are done, and since when
	records []*entry             // of those that are remembered
	aside   int                  // entries and debris that were set aside now
}

// load reads all envelopes. One that is damaged, or has no body, is set aside, and so is what a crash left: bodies without an
// envelope and files half written. Nobody was told that these are taken. What was done is tidied up.
func (d *disk) load(now time.Time) (*found, error) {
	f := &found{done: map[string]time.Time{}}
	bodies, err := names(d.path(bodyDir, ""))
	if err != nil {
		return nil, err
	}
	done, err := names(d.path(doneDir, ""))
	if err != nil {
		return nil, err
	}
	envelopes, err := names(d.path(entryDir, ""))
	if err != nil {
		return nil, err
	}
	for id := range done {
		if err := d.loadDone(f, id, now, envelopes, bodies); err != nil {
			return nil, err
		}
	}
	if err := d.loadEntries(f, envelopes, bodies); err != nil {
		return nil, err
	}
	for id := range bodies {
		f.aside++
		if err := d.setAside(id, errors.New("a body without an envelope: its message was not taken")); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// names gives the files of a folder.
func names(dir string) (map[string]bool, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	set := make(map[string]bool, len(files))
	for _, f := range files {
		set[f.Name()] = true
	}
	return set, nil
}

// loadDone ends what was done but not yet tidied up, and learns transaction ids.
func (d *disk) loadDone(f *found, id string, now time.Time, envelopes, bodies map[string]bool) error {
	if envelopes[id] { // a rename without power: the one that is done is as new
		if err := os.Remove(d.path(entryDir, id)); err != nil {
			return fmt.Errorf("tidy the queue: %w", err)
		}
		delete(envelopes, id)
	}
	if err := removeIfThere(d.path(bodyDir, id)); err != nil {
		return fmt.Errorf("tidy the queue: %w", err)
	}
	delete(bodies, id)
	e, since, err := d.readEntry(doneDir, id)
	if lacks(err) {
		return fmt.Errorf("read the queue: %w", err)
	}
	if err != nil || e.Tx == "" || now.After(since.Add(doneTime)) {
		return removeIfThere(d.path(doneDir, id)) // a record that cannot be read is no loss: its message was delivered
	}
	f.done[id] = since
	f.records = append(f.records, e)
	return nil
}

// readEntry reads an envelope, and when it was written.
func (d *disk) readEntry(dir, id string) (*entry, time.Time, error) {
	st, err := os.Stat(d.path(dir, id))
	if err != nil {
		return nil, time.Time{}, err
	}
	if st.Size() > maxEntry {
		return nil, time.Time{}, errors.New("it is too large")
	}
	text, err := os.ReadFile(d.path(dir, id))
	if err != nil {
		return nil, time.Time{}, err
	}
	e, err := decodeEntry(text)
	if err == nil && e.ID != id {
		err = errors.New("it is another's envelope")
	}
	return e, st.ModTime(), err
}

// loadEntries reads the envelopes, some at a time, and takes their bodies from the set.
func (d *disk) loadEntries(f *found, envelopes, bodies map[string]bool) error {
	work := make(chan string)
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for range loaders {
		wg.Go(func() {
			for id := range work {
				e, err := d.loadEntry(id)
				mu.Lock()
				switch {
				case lacks(err):
					errs = append(errs, fmt.Errorf("read the queue: %w", err))
				case err != nil:
					f.aside++
					errs = append(errs, d.setAside(id, err))
				default:
					f.entries = append(f.entries, e)
				}
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
	return errors.Join(errs...)
}

// lacks says that this process lacks room or a right, so that the file need not be damaged.
func lacks(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) ||
		errors.Is(err, os.ErrPermission)
}

// loadEntry reads one envelope and looks whether its body is there.
func (d *disk) loadEntry(id string) (*entry, error) {
	if strings.HasSuffix(id, ".new") {
		return nil, errors.New("an envelope half written: its message was not taken, or the one of before stands")
	}
	e, _, err := d.readEntry(entryDir, id)
	if err != nil || e.over() { // the body may be gone already
		return e, err
	}
	f, err := d.openBody(e)
	if err != nil {
		return nil, err
	}
	return e, f.Close()
}
