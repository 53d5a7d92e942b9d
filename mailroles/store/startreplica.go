package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"anycastle/mailroles/maildir"
)

// errReplicated says that a LUN's operations since the checkpoint are elsewhere.
var errReplicated = errors.New("LUN is replicated, and its last operations are not in its tree")

// leftAfter is the age at which a body of which no operation speaks is put aside.
const leftAfter = time.Hour

// seal makes a checkpoint that of a replicated LUN.
func (c *checkpoint) seal(at Position) {
	c.Replicated, c.Chain, c.chain = true, at.Chain.String(), at.Chain
	c.Check = c.check()
}

func (c *checkpoint) check() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", c.Index, c.Chain))
	return hex.EncodeToString(sum[:8])
}

// startReplica reads the last checkpoint. The operations since come by Apply.
func (s *Store) startReplica(Options) error {
	if err := s.prepare(); err != nil {
		return err
	}
	if marked, err := isReplicated(s.files); err != nil {
		return err
	} else if !marked {
		if err := s.files.put(replicatedFile, nil); err != nil {
			return err
		}
	}
	if err := s.sweepParts(); err != nil {
		return err
	}
	text, err := s.readFile(checkpointFile)
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	s.replica.blank = s.Blank()
	if len(text) == 0 {
		return nil
	}
	c := checkpoint{}
	err = json.Unmarshal(text, &c)
	chain, herr := hex.DecodeString(c.Chain)
	if err != nil || herr != nil || len(chain) != len(c.chain) || c.Check != c.check() {
		s.replica.blank = true
		return s.files.put(blankFile, []byte("checkpoint is damaged\n"))
	}
	c.chain = Sum(chain)
	s.saved, s.replica.applied = c, Position{Index: c.Index, Chain: c.chain}
	for _, r := range c.Recent {
		s.lost[r.Mailbox] = append(s.lost[r.Mailbox], r)
	}
	return nil
}

// Blank reports whether the tree is none that operations can be done on, so that it needs Install: it is damaged, or an
// Install did not come to its end.
func (s *Store) Blank() bool { return s.BlankWhy() != "" }

// BlankWhy says why the store is Blank; empty: it is not.
func (s *Store) BlankWhy() string {
	text, err := os.ReadFile(s.files.at(blankFile))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if err != nil {
		return fmt.Sprintf("whether the tree can be trusted is not known: %v", err)
	}
	return cmp.Or(strings.TrimSpace(string(text)), "the tree is marked so")
}

// sweepParts removes what is left of bodies that did not come to their end.
func (s *Store) sweepParts() error {
	entries, err := os.ReadDir(s.files.at(incomingDir))
	if err != nil {
		return fmt.Errorf("read incoming directory: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), partMark) {
			if err := s.files.remove(filepath.Join(incomingDir, e.Name())); err != nil {
				return fmt.Errorf("remove part of a body: %w", err)
			}
		}
	}
	return nil
}

// tidy removes deleted folders, and now and then puts aside what was never acknowledged.
func (s *Store) tidy() {
	graves, err := os.ReadDir(s.files.at(trashDir))
	for _, e := range graves {
		err = errors.Join(err, s.retireFolder(filepath.Join(trashDir, e.Name())))
	}
	if now := s.now(); err == nil && now.Sub(s.tidied) >= leftAfter/4 && s.replica.isSettled() {
		s.tidied = now
		err = s.sweepLeft(now)
	}
	if err != nil {
		s.log.Warn("tree is not tidied", "err", err)
	}
}

// sweepLeft puts the bodies aside that have been in the incoming directory for long and that nothing speaks of.
func (s *Store) sweepLeft(now time.Time) error {
	entries, err := os.ReadDir(s.files.at(incomingDir))
	if err != nil || len(entries) == 0 {
		return err
	}
	waiting := map[string]bool{}
	for _, m := range s.loadedBoxes() {
		m.mu.Lock()
		for _, f := range m.byGUID {
			for _, msg := range f.messages {
				if msg.file == "" {
					waiting[maildir.Unique(msg.base)] = true
				}
			}
		}
		m.mu.Unlock()
	}
	for _, e := range entries {
		st, err := e.Info()
		if errors.Is(err, os.ErrNotExist) || waiting[e.Name()] || s.queueHolds(e.Name()) {
			continue
		}
		if err != nil {
			return err
		}
		// the time of the last change of its name: the other one is the message's date
		since := st.ModTime()
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			since = time.Unix(sys.Ctim.Unix())
		}
		if now.Sub(since) < leftAfter {
			continue
		}
		if err := s.quarantine(filepath.Join(incomingDir, e.Name()), "was never acknowledged"); err != nil {
			return err
		}
	}
	return nil
}

// replicaBox gives the mailbox that an operation is of, which may have to be made and loaded.
func (s *Store) replicaBox(address string) (*Mailbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.boxes[address]
	if !ok {
		if err := s.files.mkdir(address); err != nil {
			return nil, fmt.Errorf("make mailbox: %w", err)
		}
		m = s.newBox(address)
	}
	m.asked = true
	return m, nil
}

// replicatedMailbox is Mailbox. One that is new gets its INBOX by an operation.
func (s *Store) replicatedMailbox(address string) (*Mailbox, error) {
	if !s.replica.isSettled() {
		return nil, ErrPassive
	}
	m, err := s.box(address)
	if err != nil {
		return nil, err
	}
	m.loading.Lock()
	if !m.loaded {
		err = s.Err()
	}
	if err == nil {
		err = m.load(nil)
	}
	m.loading.Unlock()
	if err != nil {
		return nil, err
	}
	if _, err := m.Folder(maildir.Inbox); err == nil {
		return m, nil
	}
	return m, m.operateAlone(true, func() (*op, error) {
		if _, err := m.find(maildir.Inbox); err == nil {
			return nil, nil
		}
		return m.creation(maildir.Inbox)
	})
}
