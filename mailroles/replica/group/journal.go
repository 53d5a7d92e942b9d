package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"

	"anycastle/mailroles/replica/chain"
)

// errStale is for an operation that was proposed in a term that is over.
var errStale = errors.New("operation of a lost term")

// journal is the log on disk. It takes no operation that does not follow the one before it, notices when the disk lost or
// changed what was acknowledged, and keeps operations for as long as a restore may name them.
//
// The library panics when it cannot read an entry that it needs. So a read that fails ends the goroutine that asked for
// it instead, after the member was called broken.
type journal struct {
	dir    string
	wal    *wal.WAL
	meta   *segments
	water  *os.File // see watermark
	health *health
	faults faults

	leads     func() bool      // set before raft starts
	expect    func(uint64)     // told of the last operation when the end of the log is cut off
	now       func() time.Time // for keep
	keep      time.Duration
	keepBytes int64

	mu     sync.RWMutex // held to write by close, to read by all else, so that nothing reads a closed file
	closed bool

	last atomic.Uint64 // index of the last entry on disk

	headMu sync.Mutex
	base   chain.Position // where the chain begins, if the log has no operation before some entry
	head   chain.Position // of the last operation in the log
}

// openJournal opens the log of a directory. Errors that are the disk's are ErrDisk, all others ErrBlank.
func openJournal(dir string, base chain.Position, segmentBytes int, h *health, f faults) (_ *journal, err error) {
	j := &journal{
		dir: filepath.Join(dir, "wal"), health: h, faults: f, base: base, head: base,
		meta: &segments{faults: f}, now: time.Now, expect: func(uint64) {}, leads: func() bool { return false },
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: open the log: %v", ErrBlank, p)
		}
		if err != nil {
			err = errors.Join(err, j.close())
		}
	}()
	j.meta.filer = filer{segment.NewFiler(j.dir, newDisk(f))}
	j.wal, err = wal.Open(j.dir, wal.WithCodec(codec{}), wal.WithMetaStore(j.meta), wal.WithSegmentSize(segmentBytes),
		wal.WithSegmentFiler(j.meta.filer), wal.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		return nil, cause("open the log", err)
	}
	last, err := j.wal.LastIndex()
	if err != nil {
		return nil, cause("open the log", err)
	}
	j.last.Store(last)
	if j.water, err = os.OpenFile(filepath.Join(dir, "watermark"), os.O_RDWR, 0); err != nil {
		return nil, cause("open the watermark", err)
	}
	mark, err := readWatermark(j.water)
	if err != nil {
		return nil, err
	}
	if last < mark {
		return nil, fmt.Errorf("%w: the log ends at %d and went to %d", ErrBlank, last, mark)
	}
	return j, j.rewind(last)
}

// cause sorts an error by whether the disk failed or what is on it is wrong.
func cause(what string, err error) error {
	for _, e := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %s: %w", ErrDisk, what, err)
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrBlank, what, err)
}

// The watermark is the last index that was written, noted without waiting for the disk: the library takes damage at the
// end of the log for a write that a crash tore, and forgets what was acknowledged. It is never ahead of the log on disk.
const watermarkSize = 12

func readWatermark(f *os.File) (uint64, error) {
	var b [watermarkSize]byte
	if n, err := f.ReadAt(b[:], 0); n < len(b) {
		return 0, cause("read the watermark", err)
	}
	if crc32.Checksum(b[:8], castagnoli) != binary.BigEndian.Uint32(b[8:]) {
		return 0, fmt.Errorf("%w: watermark: %w", ErrBlank, errRotten)
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

func writeWatermark(f *os.File, index uint64) error {
	b := binary.BigEndian.AppendUint64(nil, index)
	_, err := f.WriteAt(binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), 0)
	return err
}

// rewind finds the last operation up to an index.
func (j *journal) rewind(last uint64) error {
	first, err := j.wal.FirstIndex()
	if err != nil {
		return err
	}
	j.headMu.Lock()
	head := j.base
	j.headMu.Unlock()
	for i := last; first > 0 && i >= first; i-- {
		var l raft.Log
		if err := j.read(i, &l); err != nil {
			return err
		}
		if l.Type == raft.LogCommand {
			f, err := parseFrame(l.Data)
			if err != nil {
				return fmt.Errorf("%w: entry %d: %w", ErrBlank, i, err)
			}
			head = chain.Position{Index: i, Chain: f.head()}
			break
		}
	}
	j.headMu.Lock()
	j.head = head
	j.headMu.Unlock()
	return nil
}

// read reads an entry and checks that it is the one. raft.ErrLogNotFound: the log does not go there.
func (j *journal) read(index uint64, l *raft.Log) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: read entry %d: %v", ErrBlank, index, p)
		}
	}()
	if err := j.faults.check("read", "log"); err != nil {
		return cause(fmt.Sprintf("read entry %d", index), err)
	}
	err = j.wal.GetLog(index, l)
	switch first, ferr := j.wal.FirstIndex(); {
	case err == nil && l.Index == index:
		return nil
	case err == nil:
		return fmt.Errorf("%w: entry %d is entry %d", ErrBlank, index, l.Index)
	case errors.Is(err, raft.ErrLogNotFound) && ferr == nil && (first == 0 || index < first || index > j.last.Load()):
		return raft.ErrLogNotFound
	}
	return cause(fmt.Sprintf("read entry %d", index), err)
}

// enter is called before the log is used, and gives false once it is closed.
func (j *journal) enter() bool {
	j.mu.RLock()
	if j.closed {
		j.mu.RUnlock()
		return false
	}
	return true
}

// FirstIndex gives the first index of the log, 0 when it is empty.
func (j *journal) FirstIndex() (uint64, error) {
	if !j.enter() {
		return 0, ErrClosed
	}
	defer j.mu.RUnlock()
	return j.wal.FirstIndex()
}

// LastIndex gives the last index of the log, 0 when it is empty.
func (j *journal) LastIndex() (uint64, error) { return j.last.Load(), nil }

// GetLog reads an entry. It returns no other error than that the log does not go there; see journal.
func (j *journal) GetLog(index uint64, l *raft.Log) error {
	if !j.enter() {
		runtime.Goexit()
	}
	defer j.mu.RUnlock()
	err := j.read(index, l)
	if err == nil || err == raft.ErrLogNotFound { // the library compares too
		return err
	}
	j.health.fail(err)
	runtime.Goexit()
	return nil
}

// entry reads an entry for those who can bear an error.
func (j *journal) entry(index uint64, l *raft.Log) error {
	if !j.enter() {
		return ErrClosed
	}
	defer j.mu.RUnlock()
	return j.read(index, l)
}

// IsMonotonic says that the log has no gaps.
func (j *journal) IsMonotonic() bool { return true }

// StoreLog appends an entry.
func (j *journal) StoreLog(l *raft.Log) error { return j.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends entries; they are on disk when it returns nil. All follow the chain, or none is taken.
func (j *journal) StoreLogs(logs []*raft.Log) error {
	if !j.enter() {
		return ErrClosed
	}
	defer j.mu.RUnlock()
	if err := j.health.failed(); err != nil {
		return err
	}
	head, err := j.follow(logs)
	if err != nil {
		return err
	}
	idle := j.health.busy()
	err = j.wal.StoreLogs(logs)
	idle()
	if err == nil {
		last := logs[len(logs)-1].Index
		j.last.Store(last)
		err = writeWatermark(j.water, last)
	}
	if err != nil {
		err = fmt.Errorf("%w: append to the log: %w", ErrDisk, err)
		j.health.fail(err)
		return err
	}
	if err := j.health.failed(); err != nil {
		return err // it took so long that others went on
	}
	j.headMu.Lock()
	j.head = head
	j.headMu.Unlock()
	return nil
}

// follow checks that entries follow the chain, and gives the head after them.
func (j *journal) follow(logs []*raft.Log) (chain.Position, error) {
	head := j.tip()
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		f, err := parseFrame(l.Data)
		switch {
		case err != nil:
		case f.term != l.Term:
			return head, fmt.Errorf("entry %d of term %d: %w", l.Index, l.Term, errStale)
		case f.prev != head.Chain:
			err = fmt.Errorf("%w: entry %d does not follow operation %d", ErrDiverged, l.Index, head.Index)
		}
		if err != nil {
			if !j.leads() {
				j.health.fail(err)
			}
			return head, err
		}
		head = chain.Position{Index: l.Index, Chain: f.head()}
	}
	return head, nil
}

// tip gives the last operation of the log.
func (j *journal) tip() chain.Position {
	j.headMu.Lock()
	defer j.headMu.Unlock()
	return j.head
}

// settle notes where the state on disk is, from where the chain goes on if the log is shortened to nothing.
func (j *journal) settle(at chain.Position) {
	j.headMu.Lock()
	j.base = at
	j.headMu.Unlock()
	if !j.enter() {
		return
	}
	defer j.mu.RUnlock()
	if err := j.water.Sync(); err != nil {
		j.health.fail(fmt.Errorf("%w: sync the watermark: %w", ErrDisk, err))
	}
}

// close closes the files once nobody uses them.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	var errs []error
	if j.wal != nil {
		errs = append(errs, j.wal.Close())
	}
	if j.water != nil {
		errs = append(errs, j.water.Sync(), j.water.Close())
	}
	return errors.Join(append(errs, j.meta.Close())...)
}
