package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	slotMagic   = 0x616e79736c6f7431 // "anyslot1"
	slotHeader  = 8 + 8 + 4          // magic, sequence, length
	slotTrailer = 4
)

// slots is a small file that holds one value twice. A write goes to one half, is brought to disk, and then to the other:
// so whatever a crash tears or time rots in one half, the other has the last value that was acknowledged. It takes its
// room on disk when it is made, and needs no more on a disk that is full.
type slots struct {
	f      *os.File
	half   int64
	seq    uint64
	faults faults
}

// createSlots makes the file with a first value. It must not be there.
func createSlots(path string, half int64, value []byte, h faults) (*slots, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	s := &slots{f: f, half: half, faults: h}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 2*half); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, errors.Join(fmt.Errorf("allocate %s: %w", path, err), f.Close())
	}
	if err := s.write(value); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// openSlots opens the file and gives its value. errRotten: neither half has one.
func openSlots(path string, half int64, h faults) (*slots, []byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	s := &slots{f: f, half: half, faults: h}
	first, seq0, err0 := s.read(0)
	second, seq1, err1 := s.read(1)
	value := first
	switch {
	case err0 != nil && err1 != nil:
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", path, errRotten), f.Close())
	case err0 != nil || err1 == nil && seq1 > seq0:
		value = second
	}
	s.seq = max(seq0, seq1)
	if err0 != nil || err1 != nil || seq0 != seq1 {
		if err := s.write(value); err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
	}
	return s, value, nil
}

// read gives the value of a half and its sequence number.
func (s *slots) read(i int64) ([]byte, uint64, error) {
	b := make([]byte, s.half)
	n, _ := s.f.ReadAt(b, i*s.half) // what is missing does not pass the sum
	return parseSlot(b[:n])
}

// parseSlot reads a half as it is on disk.
func parseSlot(b []byte) ([]byte, uint64, error) {
	if len(b) < slotHeader+slotTrailer || binary.BigEndian.Uint64(b) != slotMagic {
		return nil, 0, errRotten
	}
	size := uint64(binary.BigEndian.Uint32(b[16:]))
	if size > uint64(len(b)-slotHeader-slotTrailer) {
		return nil, 0, errRotten
	}
	end := slotHeader + int(size)
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return nil, 0, errRotten
	}
	return slices.Clone(b[slotHeader:end]), binary.BigEndian.Uint64(b[8:]), nil
}

// appendSlot encodes a half.
func appendSlot(b []byte, seq uint64, value []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, slotMagic)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	b = append(b, value...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// write replaces the value; it is on disk, twice, when write returns nil.
func (s *slots) write(value []byte) error {
	name := filepath.Base(s.f.Name())
	s.seq++
	b := appendSlot(nil, s.seq, value)
	if int64(len(b)) > s.half {
		return fmt.Errorf("write %s: %d bytes do not fit", name, len(value))
	}
	for i := range int64(2) {
		if err := s.faults.check("write", name); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if _, err := s.f.WriteAt(b, i*s.half); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err := s.faults.check("sync", name); err != nil {
			return fmt.Errorf("sync %s: %w", name, err)
		}
		if err := unix.Fdatasync(int(s.f.Fd())); err != nil {
			return fmt.Errorf("sync %s: %w", name, err)
		}
	}
	return nil
}

func (s *slots) close() error { return s.f.Close() }

// faults is where tests have disks fail: it is asked before each operation on a file, and may wait.
type faults func(op, file string) error

func (f faults) check(op, file string) error {
	if f == nil {
		return nil
	}
	return f(op, file)
}
