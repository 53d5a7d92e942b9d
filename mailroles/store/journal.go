package store

import (
	"context"

	"anycastle/mailroles/replica/chain"
)

// Sum is a hash, such as the head of the chain of operations.
type Sum = chain.Sum

// Position is a point in a LUN's order of operations.
type Position = chain.Position

// Body is the text of a message, which is no part of an operation.
type Body struct {
	Mailbox string `json:"mailbox"` // empty: of the LUN's queue
	Name    string `json:"name"`    // unique part of the base name
	Sum     string `json:"sum"`     // SHA-256, in hexadecimal
	Size    int64  `json:"size"`
	Date    int64  `json:"date"` // Unix time
}

// Journal orders the operations of a replicated LUN; package replica has the one in use. All methods are safe for
// concurrent use.
type Journal interface {
	// Admit is nil when an operation may be proposed. Else it is ErrPassive, ErrAlone or ErrUnfit.
	Admit() error
	// Push has a body that is here, durably, sent to the other replicas. It does not block.
	Push(b Body)
	// Append proposes a record. The order of calls is the order of the records. wait blocks until Store.Apply returned
	// for it, or until this replica has ceased to lead: after ErrPassive nobody knows yet whether it will be done.
	Append(record []byte) (wait func() (index uint64, err error), err error)
	// Prove blocks until the operation at an index, and bodies, are where they must be before anybody is told of them.
	// It fails with ErrAlone or ErrPassive.
	Prove(index uint64, bodies []Body) error
	// Fetch gets a body from another replica, by way of Store.TakeBody.
	Fetch(ctx context.Context, b Body) error
	// Serving is nil while this replica may answer for the LUN, and else ErrPassive. It costs little.
	Serving() error
}

// Surveyor is a Journal that knows what replicas of the other site have.
type Surveyor interface {
	// Elsewhere gives an operation up to which one of them has done all, and has all bodies. It costs little.
	Elsewhere() uint64
	// Exposed reports whether Prove has let operations pass that only this site has, and some of them it still has alone.
	Exposed() bool
}

// Serving is nil while the store may answer for its LUN: an answer from what it holds is then of now. Else it is
// ErrPassive.
func (s *Store) Serving() error {
	if s.journal == nil {
		return nil
	}
	return s.journal.Serving()
}
