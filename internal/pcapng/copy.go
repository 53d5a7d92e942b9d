package pcapng

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// What Copy knows of the format, draft-ietf-opsawg-pcapng.
const (
	blockSection = 0x0a0d0d0a
	blockStats   = 5
	blockFrame   = 6

	byteOrderMagic = 0x1a2b3c4d

	blockHead  = 8  // type and length of the block
	blockLeast = 12 // and the length once more at its end
	frameHead  = 28 // of a frame's block, before the frame
	statsHead  = 20 // of a block of statistics, before its options
	sectionEnd = 16 // of a section's block, with the byte order and the version

	optionEnd     = 0
	optionFlags   = 2 // of a frame
	optionDropped = 5 // of statistics
	directionMask = 3
)

// maxBlock bounds a block, in bytes: that of the largest frame is a fifth of it.
const maxBlock = 16 << 10

// copyBuffer is what Copy reads and writes at once if there is so much.
const copyBuffer = 4 * maxBlock

// ErrFull says that Copy ended at its limit.
var ErrFull = errors.New("the file is full")

// Progress is what has been copied.
type Progress struct {
	Packets uint64 // that came in
	Frames  uint64 // as they came in and as they left
	Lost    uint64 // packets that there was no room for where they were captured
	Bytes   int64
}

// Copy copies a file that a Writer makes, until its end or the limit in bytes, and calls progress after each block. It
// copies whole blocks only, and of the statistics of an interface the last ones, at the end: what it has written is a
// whole file also if it gives an error, unless that is one of writing. ErrFull says that the next block would have been
// too much.
func Copy(dst io.Writer, src io.Reader, limit int64, progress func(Progress)) (Progress, error) {
	c := copier{in: bufio.NewReaderSize(src, copyBuffer), out: bufio.NewWriterSize(dst, copyBuffer), limit: limit, stats: map[uint32][]byte{}}
	err := c.copy(progress)
	for _, id := range slices.Sorted(maps.Keys(c.stats)) {
		c.write(c.stats[id])
	}
	return c.done, errors.Join(err, c.out.Flush())
}

type copier struct {
	in    *bufio.Reader
	out   *bufio.Writer
	limit int64
	done  Progress
	stats map[uint32][]byte // the last block of each interface
	kept  int64             // their size
}

func (c *copier) copy(progress func(Progress)) error {
	for first := true; ; first = false {
		block, err := c.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && first {
			err = checkSection(block)
		}
		if err != nil {
			return err
		}
		if err := c.take(block); err != nil {
			return err
		}
		progress(c.done)
		if c.in.Buffered() < blockHead { // nothing more for now
			if err := c.out.Flush(); err != nil {
				return err
			}
		}
	}
}

// next reads a block. io.EOF is the end between two blocks.
func (c *copier) next() ([]byte, error) {
	head, err := c.in.Peek(blockHead)
	if err != nil {
		if len(head) > 0 {
			err = midBlock(err)
		}
		return nil, err
	}
	length := binary.LittleEndian.Uint32(head[4:])
	if length < blockLeast || length > maxBlock || length%4 != 0 {
		return nil, fmt.Errorf("a block of %d bytes in the capture", length)
	}
	block := make([]byte, length)
	if _, err := io.ReadFull(c.in, block); err != nil {
		return nil, midBlock(err)
	}
	if end := binary.LittleEndian.Uint32(block[length-4:]); end != length {
		return nil, fmt.Errorf("a block of %d bytes in the capture that says %d at its end", length, end)
	}
	return block, nil
}

func midBlock(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func checkSection(block []byte) error {
	if len(block) < sectionEnd || binary.LittleEndian.Uint32(block) != blockSection || binary.LittleEndian.Uint32(block[8:]) != byteOrderMagic {
		return errors.New("this is no capture in pcapng")
	}
	return nil
}

// take writes a block, or keeps it for the end.
func (c *copier) take(block []byte) error {
	kind := binary.LittleEndian.Uint32(block)
	if kind == blockStats {
		return c.keep(block)
	}
	if c.done.Bytes+c.kept+int64(len(block)) > c.limit {
		return ErrFull
	}
	if kind == blockFrame {
		if err := c.count(block); err != nil {
			return err
		}
	}
	return c.write(block)
}

func (c *copier) write(block []byte) error {
	n, err := c.out.Write(block)
	c.done.Bytes += int64(n)
	return err
}

// keep holds back statistics, and counts what was lost.
func (c *copier) keep(block []byte) error {
	if len(block) < statsHead+4 {
		return fmt.Errorf("statistics of %d bytes in the capture", len(block))
	}
	id := binary.LittleEndian.Uint32(block[8:])
	kept := c.kept + int64(len(block)-len(c.stats[id]))
	if c.done.Bytes+kept > c.limit {
		return ErrFull
	}
	c.stats[id], c.kept = block, kept
	c.done.Lost = 0
	for _, kept := range c.stats {
		if dropped := option(kept[statsHead:len(kept)-4], optionDropped); len(dropped) == 8 {
			c.done.Lost += binary.LittleEndian.Uint64(dropped)
		}
	}
	return nil
}

// count counts a frame, and a packet if it came in.
func (c *copier) count(block []byte) error {
	if len(block) < frameHead+4 {
		return fmt.Errorf("a frame's block of %d bytes in the capture", len(block))
	}
	room := uint32(len(block) - frameHead - 4)
	captured := binary.LittleEndian.Uint32(block[20:])
	if captured > room {
		return fmt.Errorf("a frame of %d bytes in a block for %d in the capture", captured, room)
	}
	options := frameHead + (captured+3)&^3 // within the room, which is a multiple of 4 too
	flags := option(block[options:len(block)-4], optionFlags)
	if len(flags) == 4 && Direction(binary.LittleEndian.Uint32(flags)&directionMask) == In {
		c.done.Packets++
	}
	c.done.Frames++
	return nil
}

// option gives the value of the first option of a kind, or nil.
func option(options []byte, kind uint16) []byte {
	for len(options) >= 4 {
		code, length := binary.LittleEndian.Uint16(options), int(binary.LittleEndian.Uint16(options[2:]))
		value := options[4:]
		if code == optionEnd || length > len(value) {
			return nil
		}
		if code == kind {
			return value[:length]
		}
		options = value[min((length+3)&^3, len(value)):]
	}
	return nil
}
