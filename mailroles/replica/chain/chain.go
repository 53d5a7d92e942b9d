// Package chain has the hashes that tie the operations of a LUN together: each names the one before it, so that a gap or
// a divergence between replicas shows at the next operation.
package chain

import (
	"crypto/sha256"
	"encoding/hex"
)

// Sum is the head of a chain: a hash over all operations up to one. That of none is the zero value.
type Sum [sha256.Size]byte

// String gives the sum in hexadecimal.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// Next gives the head of the chain once a record is added to it.
func (s Sum) Next(record []byte) Sum {
	h := sha256.New()
	h.Write(s[:]) // a hash takes all it is given
	h.Write(record)
	return Sum(h.Sum(nil))
}

// Position is a point in the log of a LUN: the index of an operation, and the head of the chain there.
type Position struct {
	Index uint64
	Chain Sum
}
