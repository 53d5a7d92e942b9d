package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// queueLoad reads the queue from the tree, once. The caller holds the queue's mu.
func (s *Store) queueLoad() error {
	q := &s.queue
	if q.loaded {
		return nil
	}
	q.entries, q.leaving, q.behind = map[string]*queued{}, map[string]*queued{}, map[string]bool{}
	for _, dir := range []string{queueEntryDir, queueDoneDir} { // in this order: the one that is done is as new
		files, err := os.ReadDir(s.files.at(dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // there has been no queue yet
			return fmt.Errorf("read queue: %w", err)
		}
		for _, f := range files {
			if !isQueueID(f.Name()) { // half written, or nobody's
				continue
			}
			if err := s.queueLoadEntry(dir, f.Name()); err != nil {
				return fmt.Errorf("read queue: %w", err)
			}
		}
	}
	text, err := s.readFile(queueChangedFile)
	if err != nil {
		return fmt.Errorf("read queue: %w", err)
	}
	if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil { // else the next operation tells
		q.changed, q.saved = n, n
	}
	q.loaded = true
	return nil
}

func (s *Store) queueLoadEntry(dir, id string) error {
	e := &queued{}
	text, err := os.ReadFile(s.files.at(filepath.Join(dir, id)))
	if err == nil && dir == queueDoneDir {
		var st os.FileInfo
		if st, err = os.Stat(s.files.at(filepath.Join(dir, id))); err == nil {
			e.since = max(st.ModTime().Unix(), 1)
		}
	}
	if err != nil {
		return err
	}
	s.queue.entries[id] = e
	e.digest = sha256.Sum256(text)
	body, err := readEnvelope(text)
	if err != nil {
		e.damaged = true
		s.log.Error("envelope in the queue is damaged", "file", filepath.Join(dir, id), "err", err)
		return nil
	}
	e.sum, e.size = body.Sum, body.Size
	if e.since != 0 {
		return nil
	}
	path, here := s.queueFind(id, e)
	if e.here = here; here && e.sum == "" { // queued by an old version
		e.sum, err = s.sumOf(path)
	}
	return err
}

// envelope is what the store reads of one.
type envelope struct {
	Sum  string `json:"sum"`
	Size int64  `json:"size"`
}

func readEnvelope(text []byte) (envelope, error) {
	head, rest, ok := bytes.Cut(text, []byte("\n"))
	sum := sha256.Sum256(rest)
	if !ok || string(head) != hex.EncodeToString(sum[:]) {
		return envelope{}, errors.New("its checksum is wrong")
	}
	var e envelope
	if err := json.Unmarshal(rest, &e); err != nil {
		return envelope{}, err
	}
	if e.Size < 0 || e.Sum != "" && !isSum(e.Sum) {
		return envelope{}, errors.New("its body is wrong")
	}
	return e, nil
}

// queueFind gives the file of an entry's body, which must have its size.
func (s *Store) queueFind(id string, e *queued) (path string, ok bool) {
	for _, dir := range []string{queueBodyDir, incomingDir} {
		path := filepath.Join(dir, id)
		if st, err := os.Stat(s.files.at(path)); err == nil && st.Mode().IsRegular() && st.Size() == e.size {
			return path, true
		}
	}
	return "", false
}

// queueBodyOf names the body of an entry. Its date is that of the id.
func queueBodyOf(id, sum string, size int64) Body {
	b := Body{Mailbox: queueMailbox, Name: id, Sum: sum, Size: size}
	if micro, err := strconv.ParseInt(id[:14], 16, 64); err == nil {
		b.Date = micro / 1e6
	}
	return b
}
