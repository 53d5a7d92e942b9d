package group

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"testing"

	"anycastle/mailroles/replica/chain"
)

// fakeState is a machine that remembers what was applied to it. What is saved outlives a crash.
type fakeState struct {
	t *testing.T

	mu      sync.Mutex
	saved   chain.Position
	at      chain.Position
	records []string
	indexes []uint64
	kept    int // of the records, those that are saved
	expects []uint64
	file    string // where a checkpoint is kept for the next process, if that is asked for
}

func (s *fakeState) Saved() chain.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved
}

func (s *fakeState) Apply(index uint64, head chain.Sum, record []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index <= s.at.Index || head != s.at.Chain.Next(record) {
		s.t.Errorf("operation %d (%s) applied after %d, chain broken: %v", index, record, s.at.Index, head != s.at.Chain.Next(record))
		return errors.New("out of order")
	}
	s.at = chain.Position{Index: index, Chain: head}
	s.records = append(s.records, string(record))
	s.indexes = append(s.indexes, index)
	return nil
}

func (s *fakeState) Checkpoint() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != "" {
		if err := s.save(); err != nil {
			return err
		}
	}
	s.saved, s.kept = s.at, len(s.records)
	return nil
}

func (s *fakeState) Expect(last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expects = append(s.expects, last)
}

func (s *fakeState) crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.records, s.indexes = s.saved, s.records[:s.kept], s.indexes[:s.kept]
}

// install makes the state that of another replica, as a manifest does.
func (s *fakeState) install(from *fakeState) chain.Position {
	from.mu.Lock()
	at, records, indexes := from.at, slices.Clone(from.records), slices.Clone(from.indexes)
	from.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.saved, s.records, s.indexes, s.kept = at, at, records, indexes, len(records)
	return at
}

func (s *fakeState) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.records)
}

// stateFile is what a state has on disk.
type stateFile struct {
	At      chain.Position
	Records []string
	Indexes []uint64
}

// save keeps the state for the next process. The lock is held.
func (s *fakeState) save() error {
	text, err := json.Marshal(stateFile{s.at, s.records, s.indexes})
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(s.file+".new", s.file)
}

// load takes what an earlier process kept.
func (s *fakeState) load() {
	text, err := os.ReadFile(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var f stateFile
	if err := errors.Join(err, json.Unmarshal(text, &f)); err != nil {
		s.t.Fatal(err)
	}
	s.at, s.saved, s.records, s.indexes, s.kept = f.At, f.At, f.Records, f.Indexes, len(f.Records)
}
