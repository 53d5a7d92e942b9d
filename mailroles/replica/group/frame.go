package group

import (
	"encoding/binary"
	"fmt"

	"anycastle/mailroles/replica/chain"
)

const (
	frameVersion = 1
	frameHeader  = 1 + 8 + len(chain.Sum{})
	maxRecord    = 16 << 20
)

// frame is an operation as it is in the log: with the term in which it was proposed, so that one that was left over from
// a lost term is known, and with the head of the chain before it.
type frame struct {
	term   uint64
	prev   chain.Sum
	record []byte
}

// append encodes the frame.
func (f frame) append(b []byte) []byte {
	b = append(b, frameVersion)
	b = binary.BigEndian.AppendUint64(b, f.term)
	b = append(b, f.prev[:]...)
	return append(b, f.record...)
}

// head is that of the chain after the frame.
func (f frame) head() chain.Sum { return f.prev.Next(f.record) }

// parseFrame reads a frame; its record is a part of b.
func parseFrame(b []byte) (frame, error) {
	if len(b) < frameHeader || b[0] != frameVersion {
		return frame{}, fmt.Errorf("%d bytes are no operation: %w", len(b), ErrDiverged)
	}
	return frame{term: binary.BigEndian.Uint64(b[1:]), prev: chain.Sum(b[9:frameHeader]), record: b[frameHeader:]}, nil
}
