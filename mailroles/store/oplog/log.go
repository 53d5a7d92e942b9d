package oplog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/internal/wholefile"
)

// ErrBroken says that a write failed before; only opening the log again helps.
var ErrBroken = errors.New("oplog: log is broken")

const (
	chunk   = 128 << 10 // room is made in pieces of that many bytes
	reserve = 32 << 10  // of the room, for records that free space
)

// Options say where a log is. Only Dir and From must be given.
type Options struct {
	Dir    string
	From   uint64                                 // the first record that is still needed
	Before func() error                           // called before each write; its error is that of the write
	Synced func(records int, took time.Duration)  // told after each fdatasync
	Sync   func(f *os.File) error                 // fdatasync unless given
	Fill   func(f *os.File, at, size int64) error // writes zeros unless given
}

// Log is an open log.
type Log struct {
	opt   Options
	Found Found // what Open found; it does not change

	mu      sync.Mutex
	landed  *sync.Cond // a batch is done, or the log is broken
	file    *os.File
	start   uint64 // index of the segment's first record
	next    uint64
	end     int64  // where the next batch goes, or the open one ends
	size    int64  // of the room
	open    *batch // takes records
	syncing bool
	broken  error
}

// Found is what Open found.
type Found struct {
	Last   uint64   // index of the last record, From-1 when there is none
	Torn   int64    // bytes of a batch that a crash tore, and that were cut off
	Damage []Damage // whose segments are as they were found
}

// Append takes a record. wait blocks until the disk has it, and gives its index, or the error after which nobody knows
// whether it has. Records get their indexes in the order of the calls of Append. When there is an error nothing was
// taken; on a full disk the record may be taken if relief is set.
func (l *Log) Append(record []byte, relief bool) (wait func() (uint64, error), err error) {
	if len(record) > MaxRecord {
		return nil, fmt.Errorf("append record: %d bytes are more than %d", len(record), MaxRecord)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return nil, l.broken
	}
	need := int64(len(record) + 4)
	if l.open == nil || len(l.open.text)+int(need) > MaxRecord {
		need += headLen
	}
	if err := l.makeRoom(need, relief); err != nil {
		return nil, err
	}
	if l.open != nil && len(l.open.text)+int(need) > MaxRecord {
		return nil, fmt.Errorf("append record: %d bytes wait to be written", len(l.open.text))
	}
	if l.open == nil {
		l.open = newBatch(l.end, l.next)
	}
	b, index := l.open, l.next
	b.add(record)
	l.next++
	l.end += need
	return func() (uint64, error) { return index, l.wait(b) }, nil
}

// makeRoom fills the segment with zeros so that need bytes fit behind what was taken.
func (l *Log) makeRoom(need int64, relief bool) error {
	want := l.end + need + reserve
	if want <= l.size {
		return nil
	}
	size := (want + chunk - 1) / chunk * chunk
	err := l.opt.Fill(l.file, l.size, size-l.size)
	if err == nil {
		l.size = size
		return nil
	}
	err = errors.Join(fmt.Errorf("make room in the log: %w", err), l.file.Truncate(l.size))
	if relief && l.end+need <= l.size {
		return nil
	}
	return err
}

func fill(f *os.File, at, size int64) error {
	_, err := f.WriteAt(make([]byte, size), at)
	return err
}

// wait blocks until the batch is on disk. Whoever finds the disk idle writes for all that wait.
func (l *Log) wait(b *batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !b.done {
		switch {
		case l.broken != nil:
			return l.broken
		case l.syncing:
			l.landed.Wait()
		default:
			l.commit()
		}
	}
	return nil
}

// commit writes the open batch. It gives the lock up while the disk works.
func (l *Log) commit() {
	b := l.open
	l.open, l.syncing = nil, true
	l.mu.Unlock()
	err := l.write(b)
	l.mu.Lock()
	l.syncing = false
	if err != nil {
		l.broken = fmt.Errorf("%w: %w", ErrBroken, err)
	} else {
		b.done = true
	}
	l.landed.Broadcast()
}

func (l *Log) write(b *batch) error {
	if l.opt.Before != nil {
		if err := l.opt.Before(); err != nil {
			return err
		}
	}
	b.seal()
	begun := time.Now()
	if _, err := l.file.WriteAt(b.text, b.at); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	if err := l.opt.Sync(l.file); err != nil {
		return fmt.Errorf("sync log: %w", err)
	}
	if l.opt.Synced != nil {
		l.opt.Synced(b.count, time.Since(begun))
	}
	return nil
}

// Mark begins a new segment, so that Cut can remove what is before, and gives the index of the last record. No record
// may be under way.
func (l *Log) Mark() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil || l.next == l.start {
		return l.next - 1, l.broken
	}
	f, err := l.create(l.next)
	if err != nil {
		return 0, err
	}
	old := l.file
	l.file, l.start, l.end, l.size = f, l.next, 0, chunk
	return l.next - 1, old.Close()
}

// create makes a segment. On an error there is none.
func (l *Log) create(first uint64) (*os.File, error) {
	path := segment(l.opt.Dir, first)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin log segment: %w", err)
	}
	if err = l.opt.Fill(f, 0, chunk); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = wholefile.SyncDir(l.opt.Dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin log segment: %w", err), f.Close(), os.Remove(path))
	}
	return f, nil
}

// Cut removes the segments all of whose records are at most index.
func (l *Log) Cut(index uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	firsts, err := segments(l.opt.Dir)
	if err != nil {
		return err
	}
	var errs []error
	for i, first := range firsts {
		if first < l.start && i+1 < len(firsts) && firsts[i+1] <= index+1 {
			errs = append(errs, os.Remove(segment(l.opt.Dir, first)))
		}
	}
	return errors.Join(errs...)
}

// Size gives the index of the last record that was taken, and the bytes of the present segment's records.
func (l *Log) Size() (last uint64, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1, l.end
}

// Close closes the log's file. Records that nobody waited for may be lost.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

func segment(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x.log", first))
}

func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
