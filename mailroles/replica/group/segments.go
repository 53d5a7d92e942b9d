package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// segmentsHalf has room for some 5,000 segments of the log.
const segmentsHalf = 256 << 10

const segmentSize = 6*8 + 2*8 + 4

// segments is the list of the log's files. The library's own is a database that is mapped into memory, where a file that
// was cut short ends the process.
type segments struct {
	faults faults
	filer  types.SegmentFiler
	file   *slots
}

// Load reads the list. One that is missing is damage: the library would take the log's files for leftovers, and remove
// them all.
func (m *segments) Load(dir string) (types.PersistentState, error) {
	file, value, err := openSlots(filepath.Join(dir, "segments"), segmentsHalf, m.faults)
	if errors.Is(err, os.ErrNotExist) {
		err = errRotten
	}
	if err != nil {
		return types.PersistentState{}, fmt.Errorf("list of segments: %w", err)
	}
	m.file = file
	list, err := parseSegments(value)
	if err != nil {
		return list, err
	}
	return m.roll(list)
}

// roll adds a segment after one that is full, if a crash came in between: the library finds it full at the next start,
// and then takes no entry any more.
func (m *segments) roll(list types.PersistentState) (types.PersistentState, error) {
	if len(list.Segments) == 0 {
		return list, nil
	}
	tail := &list.Segments[len(list.Segments)-1]
	if !tail.SealTime.IsZero() {
		return list, nil
	}
	w, err := m.filer.RecoverTail(*tail)
	if errors.Is(err, os.ErrNotExist) {
		return list, nil // the library makes it
	}
	if err != nil {
		return list, err
	}
	full, start, err := w.Sealed()
	last := w.LastIndex()
	if err := errors.Join(err, w.Close()); err != nil || !full {
		return list, err
	}
	tail.SealTime, tail.MaxIndex, tail.IndexStart = time.Now(), last, start
	list.Segments = append(list.Segments, types.SegmentInfo{
		ID: list.NextSegmentID, BaseIndex: last + 1, MinIndex: last + 1, Codec: codecID, CreateTime: time.Now(), SizeLimit: tail.SizeLimit,
	})
	list.NextSegmentID++
	return list, m.CommitState(list)
}

// CommitState replaces the list. The library calls every segment it makes one of its own codec, and then opens none.
func (m *segments) CommitState(s types.PersistentState) error {
	s.Segments = slices.Clone(s.Segments)
	for i := range s.Segments {
		s.Segments[i].Codec = codecID
	}
	return m.file.write(appendSegments(nil, s))
}

// GetStable and SetStable are for those who have no better place for their votes.
func (m *segments) GetStable([]byte) ([]byte, error) { return nil, errors.ErrUnsupported }

// SetStable is not used; see GetStable.
func (m *segments) SetStable(_, _ []byte) error { return errors.ErrUnsupported }

// Close closes the file of the list.
func (m *segments) Close() error {
	if m.file == nil {
		return nil
	}
	return m.file.close()
}

func appendSegments(b []byte, s types.PersistentState) []byte {
	b = binary.BigEndian.AppendUint64(b, s.NextSegmentID)
	for _, i := range s.Segments {
		for _, n := range []uint64{i.ID, i.BaseIndex, i.MinIndex, i.MaxIndex, i.Codec, i.IndexStart, nanos(i.CreateTime), nanos(i.SealTime)} {
			b = binary.BigEndian.AppendUint64(b, n)
		}
		b = binary.BigEndian.AppendUint32(b, i.SizeLimit)
	}
	return b
}

func parseSegments(b []byte) (types.PersistentState, error) {
	if len(b) < 8 || (len(b)-8)%segmentSize != 0 {
		return types.PersistentState{}, fmt.Errorf("list of segments: %w", errRotten)
	}
	s := types.PersistentState{NextSegmentID: binary.BigEndian.Uint64(b)}
	for b = b[8:]; len(b) > 0; b = b[segmentSize:] {
		n := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
		s.Segments = append(s.Segments, types.SegmentInfo{
			ID: n(0), BaseIndex: n(1), MinIndex: n(2), MaxIndex: n(3), Codec: n(4), IndexStart: n(5),
			CreateTime: timeOf(n(6)), SealTime: timeOf(n(7)), SizeLimit: binary.BigEndian.Uint32(b[64:]),
		})
	}
	return s, nil
}

// nanos and timeOf keep the zero time, which says that a segment is not sealed.
func nanos(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func timeOf(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n))
}

// filer has the header of each segment name our codec; see CommitState.
type filer struct{ types.SegmentFiler }

// Create makes a segment.
func (f filer) Create(i types.SegmentInfo) (types.SegmentWriter, error) {
	i.Codec = codecID
	return f.SegmentFiler.Create(i)
}

// Open opens a segment that takes no more entries. One whose end was cut off has no index of its entries: the library, which
// cut it, keeps that in memory only, and could read none of them after the next start. They are found by reading through it.
func (f filer) Open(i types.SegmentInfo) (types.SegmentReader, error) {
	if i.IndexStart != 0 {
		return f.SegmentFiler.Open(i)
	}
	w, err := f.RecoverTail(i)
	if err != nil {
		return nil, err
	}
	if last := w.LastIndex(); last < i.MaxIndex {
		return nil, errors.Join(fmt.Errorf("segment ends at %d and went to %d: %w", last, i.MaxIndex, errRotten), w.Close())
	}
	return w, nil
}

// disk is the library's file system with faults.
type disk struct {
	types.VFS
	faults faults
}

func newDisk(h faults) disk { return disk{fs.New(), h} }

// Create makes a segment.
func (d disk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if err := d.faults.check("create", name); err != nil {
		return nil, err
	}
	f, err := d.VFS.Create(dir, name, size)
	return faulty{f, name, d.faults}, err
}

// OpenWriter opens the last segment.
func (d disk) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := d.VFS.OpenWriter(dir, name)
	return faulty{f, name, d.faults}, err
}

type faulty struct {
	types.WritableFile
	name   string
	faults faults
}

// WriteAt writes to a segment.
func (f faulty) WriteAt(b []byte, at int64) (int, error) {
	if err := f.faults.check("write", f.name); err != nil {
		return 0, err
	}
	return f.WritableFile.WriteAt(b, at)
}

// Sync brings a segment to disk.
func (f faulty) Sync() error {
	if err := f.faults.check("sync", f.name); err != nil {
		return err
	}
	return f.WritableFile.Sync()
}
