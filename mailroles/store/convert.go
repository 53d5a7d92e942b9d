package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"anycastle/internal/wholefile"
)

// convert makes a LUN that was not replicated one that is: all of its own log is done, all that others put there is
// adopted, each message's sum is known, and MODSEQs begin anew. One that is replicated already, or has no mail, is left
// alone. It can be done again after a crash within it.
func convert(opt Options) error {
	d := files{root: opt.Root, fault: opt.fault}
	if marked, err := isReplicated(d); marked || err != nil {
		return err
	}
	text, err := os.ReadFile(d.at(checkpointFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	var c checkpoint
	if json.Unmarshal(text, &c) == nil && c.Replicated { // a crash came before the log was dropped
		return dropLog(d)
	}
	if has, err := hasMail(d); err != nil || !has {
		return err
	}
	opt.Journal = nil
	opt.Log.Info("LUN becomes replicated", "root", opt.Root)
	s, err := OpenWith(opt)
	if err != nil {
		return err
	}
	err = s.number()
	recent := s.recents(s.now())
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("make LUN %s replicated: %w", opt.Root, err)
	}
	at := checkpoint{Time: s.now(), Recent: recent}
	at.seal(Position{})
	if text, err = json.Marshal(at); err != nil {
		return err
	}
	if err := d.put(checkpointFile, append(text, '\n')); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return dropLog(d)
}

// hasMail reports whether a LUN has anything that its own log or tree would tell.
func hasMail(d files) (bool, error) {
	s := &Store{root: d.root, files: d}
	addresses, err := s.addresses()
	if err != nil || len(addresses) > 0 {
		return err == nil, err
	}
	entries, err := os.ReadDir(d.at(logDir))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return len(entries) > 0, err
}

// dropLog removes the log that a LUN had for itself: its tree has all of it.
func dropLog(d files) error {
	entries, err := os.ReadDir(d.at(logDir))
	if err != nil {
		return fmt.Errorf("list log: %w", err)
	}
	for _, e := range entries {
		if path := filepath.Join(logDir, e.Name()); path != checkpointFile && path != blankFile {
			if err := d.remove(path); err != nil {
				return fmt.Errorf("remove log: %w", err)
			}
		}
	}
	return wholefile.SyncDir(d.at(logDir))
}

// replicatedFile marks a LUN whose operations are elsewhere. A checkpoint that is damaged does not tell.
var replicatedFile = filepath.Join(logDir, "replicated")

func isReplicated(d files) (bool, error) {
	_, err := os.Stat(d.at(replicatedFile))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// number reads all mailboxes and finds the sums of all messages. They have no MODSEQ.
func (s *Store) number() error {
	addresses, err := s.addresses()
	if err != nil {
		return err
	}
	for _, address := range addresses {
		m, err := s.Mailbox(address)
		if err != nil {
			return err
		}
		if err := m.number(); err != nil {
			return err
		}
	}
	return s.Checkpoint()
}

func (m *Mailbox) number() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.byGUID {
		f.own()
		for i, msg := range f.messages {
			next := *msg
			next.Modseq = 0
			if next.Sum == "" {
				var err error
				if next.Sum, err = m.store.sumOf(f.path(msg)); err != nil {
					return fmt.Errorf("find sum of message %d in %s of %s: %w", msg.UID, f.name, m.address, err)
				}
			}
			f.messages[i] = &next
		}
		f.changed = 0
	}
	m.outdate()
	return nil
}
