package group

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"anycastle/mailroles/replica/chain"
)

const markerHalf = 64 << 10

// note is what a marker holds: that everything up to an index of the log is in the state on disk, who the members were
// there, and which operation was the last one at or before it.
type note struct {
	Index, Term uint64
	Members     []byte // as the library encodes them
	MembersAt   uint64
	At          chain.Position
}

// encode never fails: a note has numbers and bytes.
func (n note) encode() []byte {
	text, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	return text
}

// parseNote reads a note, and checks all that the library would panic for.
func parseNote(text []byte) (n note, c raft.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("marker: members: %w: %v", errRotten, p)
		}
	}()
	if err := json.Unmarshal(text, &n); err != nil {
		return n, c, fmt.Errorf("marker: %w: %w", errRotten, err)
	}
	c = raft.DecodeConfiguration(n.Members)
	switch {
	case n.Index == 0 || n.Term == 0 || n.MembersAt == 0 || n.At.Index > n.Index || len(c.Servers) == 0:
		return n, c, fmt.Errorf("marker at %d of term %d with %d members: %w", n.Index, n.Term, len(c.Servers), errRotten)
	}
	return n, c, nil
}

// marker is what the library has for a store of snapshots. There is one, and it has no state in it: the state is on disk
// by then, see Machine.Checkpoint.
type marker struct {
	file    *slots
	health  *health
	settled func(chain.Position)

	mu  sync.Mutex
	now note
}

// Create begins a new marker, which counts once it is closed.
func (m *marker) Create(_ raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &sink{m: m, note: note{Index: index, Term: term, Members: raft.EncodeConfiguration(c), MembersAt: at}}, nil
}

// List gives the marker.
func (m *marker) List() ([]*raft.SnapshotMeta, error) {
	meta, _ := m.current()
	return []*raft.SnapshotMeta{meta}, nil
}

// Open gives the marker whatever the name. A member that is sent it learns that it is too far behind.
func (m *marker) Open(string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, body := m.current()
	return meta, io.NopCloser(bytes.NewReader(body)), nil
}

func (m *marker) current() (*raft.SnapshotMeta, []byte) {
	n := m.note()
	body := encodePosition(n.At)
	return &raft.SnapshotMeta{
		Version: 1, ID: fmt.Sprintf("%d-%d", n.Term, n.Index), Index: n.Index, Term: n.Term, Size: int64(len(body)),
		Configuration: raft.DecodeConfiguration(n.Members), ConfigurationIndex: n.MembersAt,
	}, body
}

func (m *marker) note() note {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// replace makes a note the marker.
func (m *marker) replace(n note) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n.Index <= m.now.Index {
		return nil
	}
	if err := m.health.failed(); err != nil {
		return err
	}
	defer m.health.busy()()
	if err := m.file.write(n.encode()); err != nil {
		err = fmt.Errorf("%w: %w", ErrDisk, err)
		m.health.fail(err)
		return err
	}
	m.now = n
	m.settled(n.At)
	return nil
}

// sink is a marker in the making; what is written to it is its position.
type sink struct {
	m    *marker
	note note
	body bytes.Buffer
}

// Write takes the position.
func (s *sink) Write(b []byte) (int, error) { return s.body.Write(b) }

// ID names the marker.
func (s *sink) ID() string { return fmt.Sprintf("%d-%d", s.note.Term, s.note.Index) }

// Cancel forgets it.
func (s *sink) Cancel() error { return nil }

// Close makes it the marker.
func (s *sink) Close() error {
	if err := json.Unmarshal(s.body.Bytes(), &s.note.At); err != nil {
		return fmt.Errorf("position of a marker: %w", err)
	}
	return s.m.replace(s.note)
}

// encodePosition never fails: a position has numbers.
func encodePosition(at chain.Position) []byte {
	text, err := json.Marshal(at)
	if err != nil {
		panic(err)
	}
	return text
}
