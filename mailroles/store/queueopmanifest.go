package store

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// queuePart is how many bytes of envelopes a line of a manifest has, about.
const queuePart = 4 << 20

// queueManifest is a part of the queue in a manifest.
type queueManifest struct {
	Changed uint64      `json:"changed"`
	Entries []queueLine `json:"entries"`
}

// queueLine is an entry of the queue in a manifest.
type queueLine struct {
	ID       string `json:"id"`
	Envelope string `json:"envelope"`
	Sum      string `json:"sum,omitempty"`
	Size     int64  `json:"size,omitempty"`
	Since    int64  `json:"since,omitempty"` // it is done; Unix time
	Index    uint64 `json:"index,omitempty"` // of the operation that added it
}

// queueManifest gives all that the queue holds, for another replica. No operation runs meanwhile.
func (s *Store) queueManifest() (parts []json.RawMessage, err error) {
	q := &s.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := s.queueLoad(); err != nil {
		return nil, err
	}
	m, bytes := queueManifest{Changed: q.changed}, 0
	end := func() error {
		part, err := json.Marshal(m)
		parts, m.Entries, bytes = append(parts, part), nil, 0
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(q.entries)) {
		e, dir := q.entries[id], queueEntryDir
		if e.since != 0 {
			dir = queueDoneDir
		}
		text, err := s.queueText(dir, id, e)
		if err == nil {
			_, err = readEnvelope(text)
		}
		if err != nil { // the digests of the replicas tell that one lacks it
			s.log.Error("envelope in the queue is left out of the manifest", "id", id, "err", err)
			continue
		}
		m.Entries = append(m.Entries, queueLine{
			ID: id, Envelope: string(text), Sum: e.sum, Size: e.size, Since: e.since, Index: e.index,
		})
		if bytes += len(text); bytes >= queuePart {
			if err := end(); err != nil {
				return nil, err
			}
		}
	}
	return parts, end()
}

// queueInstall makes the queue what another replica's was. What there is and the other does not have is put aside. It may
// be done again after a crash within it.
func (s *Store) queueInstall(parts []json.RawMessage) error {
	changed, wanted := uint64(0), map[string]*queued{}
	for _, part := range parts {
		var m queueManifest
		if err := json.Unmarshal(part, &m); err != nil {
			return fmt.Errorf("read queue of the manifest: %w", err)
		}
		changed = m.Changed
		for _, l := range m.Entries {
			e, err := l.entry()
			if err != nil {
				return err
			}
			wanted[l.ID] = e
		}
	}
	q := &s.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := s.queueLoad(); err != nil {
		return err
	}
	if err := s.queueFolders(); err != nil {
		return err
	}
	if err := s.queueClear(wanted); err != nil {
		return err
	}
	q.entries, q.leaving, q.behind, q.changed, q.lost = wanted, map[string]*queued{}, map[string]bool{}, changed, nil
	for id, e := range wanted {
		if err := s.queueVet(id, e); err != nil {
			return err
		}
		if err := s.queueFit(id); err != nil {
			return fmt.Errorf("install queue: %w", err)
		}
	}
	return nil
}

func (l queueLine) entry() (*queued, error) {
	b, err := readEnvelope([]byte(l.Envelope))
	if err == nil && (!isQueueID(l.ID) || l.Size < 0 || l.Sum != "" && !isSum(l.Sum) || l.Since < 0 || len(l.Envelope) > maxEnvelope) {
		err = fmt.Errorf("its form is wrong")
	}
	if err == nil && b.Sum != "" && (b.Sum != l.Sum || b.Size != l.Size) {
		err = fmt.Errorf("its body is another")
	}
	if err != nil {
		return nil, fmt.Errorf("read queue entry %q of the manifest: %w", l.ID, err)
	}
	return &queued{
		since: l.Since, text: []byte(l.Envelope), digest: sha256.Sum256([]byte(l.Envelope)), sum: l.Sum, size: l.Size, index: l.Index,
	}, nil
}

// queueClear takes files away that are not wanted.
func (s *Store) queueClear(wanted map[string]*queued) error {
	for _, dir := range []string{queueDoneDir, queueEntryDir, queueBodyDir} {
		files, err := os.ReadDir(s.files.at(dir))
		if err != nil {
			return fmt.Errorf("read queue: %w", err)
		}
		for _, f := range files {
			path := filepath.Join(dir, f.Name())
			e := wanted[f.Name()]
			switch {
			case e != nil && (e.since == 0) == (dir != queueDoneDir): // what is wanted is written over it
			case e != nil, dir == queueDoneDir, strings.HasSuffix(f.Name(), ".new"): // or half written
				err = s.files.remove(path)
			default:
				err = s.quarantine(path, "is not in the queue of the other replicas")
			}
			if err != nil {
				return fmt.Errorf("clear queue: %w", err)
			}
		}
	}
	return nil
}

// queueVet puts a body aside that is not the one that is wanted.
func (s *Store) queueVet(id string, e *queued) error {
	if e.since != 0 || e.sum == "" {
		return nil
	}
	for _, dir := range []string{queueBodyDir, incomingDir} {
		path := filepath.Join(dir, id)
		if _, err := os.Lstat(s.files.at(path)); err != nil {
			continue
		}
		sum, err := s.sumOf(path)
		if err == nil && sum != e.sum {
			err = s.quarantine(path, "is another body than the other replicas have")
		}
		if err != nil {
			return fmt.Errorf("install queue: %w", err)
		}
	}
	return nil
}
