package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errRotten is for what was read back other than it was written.
var errRotten = errors.New("what was read is not what was written")

const (
	codecID      = wal.FirstExternalCodecID + 0x616e7963 // "anyc"
	codecHeader  = 8 + 8 + 1 + 8 + 4                     // index, term, type, time, length of the data
	codecTrailer = 4
)

// codec writes entries of the log with a sum over all of each: the library has sums for batches only, and checks them in
// the last segment alone.
type codec struct{}

func (codec) ID() uint64 { return codecID }

// Encode writes an entry.
func (codec) Encode(l *raft.Log, w io.Writer) error {
	if len(l.Extensions) > 0 {
		return fmt.Errorf("entry %d has extensions, which this log does not keep", l.Index)
	}
	b := make([]byte, 0, codecHeader+len(l.Data)+codecTrailer)
	b = binary.BigEndian.AppendUint64(b, l.Index)
	b = binary.BigEndian.AppendUint64(b, l.Term)
	b = append(b, byte(l.Type))
	b = binary.BigEndian.AppendUint64(b, uint64(l.AppendedAt.UnixNano()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.Data)))
	b = append(b, l.Data...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	_, err := w.Write(b)
	return err
}

// Decode reads an entry. The library gives what it found on disk, which may be anything.
func (codec) Decode(b []byte, l *raft.Log) error {
	if len(b) < codecHeader+codecTrailer {
		return fmt.Errorf("entry of %d bytes: %w", len(b), errRotten)
	}
	sum := binary.BigEndian.Uint32(b[len(b)-codecTrailer:])
	b = b[:len(b)-codecTrailer]
	if crc32.Checksum(b, castagnoli) != sum || uint64(binary.BigEndian.Uint32(b[25:])) != uint64(len(b)-codecHeader) {
		return fmt.Errorf("sum of an entry: %w", errRotten)
	}
	*l = raft.Log{
		Index: binary.BigEndian.Uint64(b), Term: binary.BigEndian.Uint64(b[8:]), Type: raft.LogType(b[16]),
		AppendedAt: time.Unix(0, int64(binary.BigEndian.Uint64(b[17:]))),
	}
	if len(b) > codecHeader {
		l.Data = append([]byte(nil), b[codecHeader:]...)
	}
	return nil
}
