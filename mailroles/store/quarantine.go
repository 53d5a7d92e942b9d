package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// quarantineList names what is in quarantine, one JSON object a line.
var quarantineList = filepath.Join(quarantineDir, "list")

// Quarantined is a file that the store found and did not know. It is kept as it was, and never removed.
type Quarantined struct {
	Time   time.Time `json:"time"`
	File   string    `json:"file"` // in ROOT/.quarantine
	From   string    `json:"from"` // where it was, below ROOT
	Reason string    `json:"reason"`
	Bytes  int64     `json:"bytes"`
}

// quarantine puts a file or a directory aside. One that is not there is no error: it was put aside before a crash.
func (s *Store) quarantine(from, reason string) error {
	return s.setAside(from, reason, s.files.rename)
}

// keepCopy gives a file a second name in quarantine.
func (s *Store) keepCopy(from, reason string) error { return s.setAside(from, reason, s.files.link) }

func (s *Store) setAside(from, reason string, move func(from, to string) error) error {
	st, err := os.Lstat(s.files.at(from))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	name := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, filepath.Base(from))
	q := Quarantined{
		Time: s.now(), From: strings.ToValidUTF8(from, "\ufffd"), Reason: reason, Bytes: st.Size(),
		File: fmt.Sprintf("%d.%d.%d-%.100s", s.now().Unix(), os.Getpid(), s.seq.Add(1), name),
	}
	if err := s.list(q); err != nil {
		return err
	}
	if err := move(from, filepath.Join(quarantineDir, q.File)); err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	s.note(func(r *Report) { r.Quarantined++ })
	s.log.Warn("put into quarantine", "from", q.From, "as", q.File, "reason", reason)
	return nil
}

// list writes down what goes into quarantine before it does.
func (s *Store) list(q Quarantined) error {
	line, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("list quarantine: %w", err)
	}
	if err := s.files.ask("write", quarantineList); err != nil {
		return err
	}
	f, err := os.OpenFile(s.files.at(quarantineList), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("list quarantine: %w", err)
	}
	_, err = f.Write(append(slices.Concat(lineEnd(f), line), '\n'))
	return errors.Join(err, f.Close())
}

// lineEnd gives what ends a line that a crash tore.
func lineEnd(f *os.File) []byte {
	st, err := f.Stat()
	last := make([]byte, 1)
	if err == nil && st.Size() > 0 {
		_, err = f.ReadAt(last, st.Size()-1)
	}
	if err != nil || st.Size() == 0 || last[0] == '\n' {
		return nil
	}
	return []byte("\n")
}

// unlisted is the reason of a file whose own is lost.
const unlisted = "is not in the list of what is in quarantine, after a crash"

// Quarantine lists what is in quarantine: as it was put there, and then what the list does not name.
func (s *Store) Quarantine() ([]Quarantined, error) {
	text, err := s.readFile(quarantineList)
	if err != nil {
		return nil, fmt.Errorf("read quarantine: %w", err)
	}
	entries, err := os.ReadDir(s.files.at(quarantineDir))
	if err != nil {
		return nil, fmt.Errorf("read quarantine: %w", err)
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name()] = e.Name() != filepath.Base(quarantineList)
	}
	list := []Quarantined{}
	for line := range strings.Lines(string(text)) {
		var q Quarantined
		if err := json.Unmarshal([]byte(line), &q); err == nil && there[q.File] { // else a crash came before the file
			list = append(list, q)
			there[q.File] = false
		}
	}
	for _, e := range entries {
		if st, err := e.Info(); err == nil && there[e.Name()] {
			list = append(list, Quarantined{Time: st.ModTime(), File: e.Name(), Reason: unlisted, Bytes: st.Size()})
		}
	}
	return list, nil
}
