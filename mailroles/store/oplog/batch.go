package oplog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

const (
	headLen = 24
	// MaxRecord is the most bytes of a record.
	MaxRecord = 64 << 20
)

var (
	magic      = []byte("aOp1")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errBatch   = errors.New("oplog: no batch")
)

// batch is records on their way to the disk. Its length and sum are filled in by seal.
type batch struct {
	at    int64 // where in the segment
	first uint64
	count int
	text  []byte
	done  bool
}

func newBatch(at int64, first uint64) *batch {
	return &batch{at: at, first: first, text: make([]byte, headLen, 4096)}
}

func (b *batch) add(record []byte) {
	b.text = binary.BigEndian.AppendUint32(b.text, uint32(len(record)))
	b.text = append(b.text, record...)
	b.count++
}

func (b *batch) seal() {
	copy(b.text, magic)
	binary.BigEndian.PutUint32(b.text[8:], uint32(len(b.text)-headLen))
	binary.BigEndian.PutUint32(b.text[12:], uint32(b.count))
	binary.BigEndian.PutUint64(b.text[16:], b.first)
	binary.BigEndian.PutUint32(b.text[4:], crc32.Checksum(b.text[8:], castagnoli))
}

// parse reads a batch from the start of data.
func parse(data []byte) (first uint64, records [][]byte, size int, err error) {
	if len(data) < headLen || !bytes.HasPrefix(data, magic) {
		return 0, nil, 0, errBatch
	}
	length := int64(binary.BigEndian.Uint32(data[8:]))
	count := binary.BigEndian.Uint32(data[12:])
	first = binary.BigEndian.Uint64(data[16:])
	if length > int64(len(data)-headLen) || int64(count)*4 > length || count == 0 || first == 0 || first+uint64(count) < first {
		return 0, nil, 0, errBatch
	}
	size = headLen + int(length)
	if crc32.Checksum(data[8:size], castagnoli) != binary.BigEndian.Uint32(data[4:]) {
		return 0, nil, 0, errBatch
	}
	rest := data[headLen:size]
	for range count {
		if len(rest) < 4 || int64(binary.BigEndian.Uint32(rest)) > int64(len(rest)-4) {
			return 0, nil, 0, errBatch
		}
		n := binary.BigEndian.Uint32(rest)
		records = append(records, rest[4:4+n])
		rest = rest[4+n:]
	}
	if len(rest) > 0 {
		return 0, nil, 0, errBatch
	}
	return first, records, size, nil
}

// Damage is a place in a segment that cannot be read, although what comes behind it can.
type Damage struct {
	Path     string // of the segment
	Offset   int64
	From, To uint64 // the records that are lost; none when To is less than From
}

// scanned is what a segment has.
type scanned struct {
	next   uint64 // index behind the last record
	end    int64  // behind the last batch
	torn   int64  // bytes behind end up to the last that is not zero
	damage []Damage
}

// scan reads a segment whose first record should be next. each may be nil; its error ends the scan.
func scan(path string, data []byte, next uint64, each func(uint64, []byte) error) (scanned, error) {
	s := scanned{next: next}
	for {
		first, records, size, err := parse(data[s.end:])
		if err != nil || first != s.next {
			skip := later(data[s.end:], s.next)
			if skip < 0 {
				s.torn = int64(len(bytes.TrimRight(data[s.end:], "\x00")))
				return s, nil
			}
			at := s.end
			s.end += int64(skip)
			first, records, size, _ = parse(data[s.end:])
			s.damage = append(s.damage, Damage{Path: path, Offset: at, From: s.next, To: first - 1})
		}
		for i, r := range records {
			if each == nil {
				break
			}
			if err := each(first+uint64(i), r); err != nil {
				return s, err
			}
		}
		s.next = first + uint64(len(records))
		s.end += int64(size)
	}
}

// later finds the first whole batch whose records come at next or later, or -1.
func later(data []byte, next uint64) int {
	for at := 0; ; at++ {
		i := bytes.Index(data[at:], magic)
		if i < 0 {
			return -1
		}
		at += i
		if first, _, _, err := parse(data[at:]); err == nil && first >= next {
			return at
		}
	}
}
