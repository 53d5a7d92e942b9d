package group

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// votesHalf is ample for terms, a name and an era.
const votesHalf = 4096

// The keys under which the library keeps what it must not forget.
var (
	keyTerm     = []byte("CurrentTerm")
	keyVoteTerm = []byte("LastVoteTerm")
	keyVote     = []byte("LastVoteCand")
)

// errNotFound has the text that the library looks for.
var errNotFound = errors.New("not found")

// ballot is what a member must never forget, or it might vote twice.
type ballot struct {
	Era      uint64 `json:"era"` // grows each time the group is recovered from the loss of its quorum
	Term     uint64 `json:"term"`
	VoteTerm uint64 `json:"vote_term,omitempty"`
	Vote     string `json:"vote,omitempty"`
}

// encode never fails: a ballot has numbers and a text.
func (b ballot) encode() []byte {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err)
	}
	return text
}

func parseBallot(text []byte) (ballot, error) {
	var b ballot
	if err := json.Unmarshal(text, &b); err != nil {
		return b, fmt.Errorf("votes: %w: %w", errRotten, err)
	}
	return b, nil
}

// votes is the library's stable store. The library panics when the term cannot be written, so a write that fails ends
// the goroutine that asked for it instead, after the member was called broken.
type votes struct {
	file   *slots
	health *health

	mu       sync.Mutex
	now      ballot
	voteTerm uint64 // the term of a vote whose candidate comes with the next call
}

// Set keeps the candidate voted for, with the term that was set before: the two are one write, for half of a vote is none.
func (v *votes) Set(key, value []byte) error {
	if !bytes.Equal(key, keyVote) {
		return fmt.Errorf("set %q: not a key of a member", key)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	next := v.now
	next.VoteTerm, next.Vote = v.voteTerm, string(value)
	v.keep(next)
	return nil
}

// SetUint64 keeps a term.
func (v *votes) SetUint64(key []byte, value uint64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case bytes.Equal(key, keyVoteTerm):
		v.voteTerm = value
	case bytes.Equal(key, keyTerm):
		if next := v.now; next.Term != value {
			next.Term = value
			v.keep(next)
		}
	default:
		return fmt.Errorf("set %q: not a key of a member", key)
	}
	return nil
}

// keep brings a ballot to disk or does not return. It is called with the lock held; deferred functions let it go.
func (v *votes) keep(next ballot) {
	defer v.health.busy()()
	if v.health.failed() != nil {
		runtime.Goexit()
	}
	if err := v.file.write(next.encode()); err != nil {
		v.health.fail(fmt.Errorf("%w: %w", ErrDisk, err))
		runtime.Goexit()
	}
	v.now = next
}

// Get gives the candidate of the last vote.
func (v *votes) Get(key []byte) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !bytes.Equal(key, keyVote) || v.now.Vote == "" {
		return nil, errNotFound
	}
	return []byte(v.now.Vote), nil
}

// GetUint64 gives a term.
func (v *votes) GetUint64(key []byte) (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case bytes.Equal(key, keyTerm) && v.now.Term > 0:
		return v.now.Term, nil
	case bytes.Equal(key, keyVoteTerm) && v.now.VoteTerm > 0:
		return v.now.VoteTerm, nil
	}
	return 0, errNotFound
}

func (v *votes) era() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now.Era
}
