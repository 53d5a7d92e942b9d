package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"anycastle/mailroles/store/oplog"
)

// start reads the last checkpoint and the log, and does again what the log has since: in memory and, where it is not
// done yet, in the tree.
func (s *Store) start(opt Options) error {
	if err := s.prepare(); err != nil {
		return err
	}
	if err := s.readCheckpoint(); err != nil {
		return err
	}
	if marked, err := isReplicated(s.files); err != nil || marked || s.saved.Replicated {
		return errors.Join(err, errReplicated)
	}
	log, err := oplog.Open(oplog.Options{
		Dir: s.files.at(logDir), From: s.saved.Index + 1, Before: s.syncBodies, Synced: opt.Synced, Sync: s.syncLog,
	})
	if err != nil {
		return err
	}
	s.ops = log
	if err := s.tellDamage(log.Found); err != nil {
		return err
	}
	ops, err := s.readLog()
	if err != nil {
		return err
	}
	for _, address := range slices.Sorted(maps.Keys(ops)) {
		s.report.Replayed += len(ops[address])
		m := s.newBox(address)
		m.loading.Lock()
		err := m.load(ops[address])
		m.loading.Unlock()
		if err != nil {
			return err
		}
	}
	if err := s.sweep(); err != nil {
		return err
	}
	if len(ops) == 0 && len(log.Found.Damage) == 0 {
		return nil
	}
	if err := s.Checkpoint(); err != nil { // a full disk must not keep the mail from being read
		s.log.Error("no checkpoint at the start", "err", err)
	}
	return s.Err()
}

// prepare makes the directories of the store.
func (s *Store) prepare() error {
	s.savedLast = s.now()
	s.report = Report{Begun: s.savedLast}
	for _, dir := range []string{incomingDir, trashDir, quarantineDir, logDir, expungedDir, snapshotDir} {
		if err := s.files.mkdir(dir); err != nil {
			return err
		}
	}
	return s.startSnapshots()
}

// readLog gives the operations since the checkpoint, by mailbox. A record that is none is told.
func (s *Store) readLog() (map[string][]logged, error) {
	ops := map[string][]logged{}
	err := s.ops.Replay(s.saved.Index+1, func(index uint64, record []byte) error {
		o, err := decodeOp(record)
		if err != nil {
			s.report.Odd++
			s.log.Error("record of the log is no operation", "index", index, "err", err)
			return nil
		}
		ops[o.Mailbox] = append(ops[o.Mailbox], logged{index, o})
		return nil
	})
	return ops, err
}

// tellDamage reports what the log found, and keeps the segments that are damaged.
func (s *Store) tellDamage(found oplog.Found) error {
	if s.report.Torn = found.Torn; found.Torn > 0 {
		s.log.Warn("log ended in a torn batch, which nobody was told of", "bytes", found.Torn)
	}
	kept := map[string]bool{}
	for _, d := range found.Damage {
		s.report.Damage = append(s.report.Damage, Damage{Segment: filepath.Base(d.Path), Offset: d.Offset, From: d.From, To: d.To})
		s.log.Error("log is damaged, operations are lost", "segment", d.Path, "offset", d.Offset, "from", d.From, "to", d.To)
		if kept[d.Path] {
			continue
		}
		kept[d.Path] = true
		if err := s.keepCopy(filepath.Join(logDir, filepath.Base(d.Path)), "segment of the log is damaged"); err != nil {
			return err
		}
	}
	return nil
}

// sweep puts the bodies aside that no operation speaks of, and removes what is left of deleted folders.
func (s *Store) sweep() error {
	left, err := os.ReadDir(s.files.at(incomingDir))
	if err != nil {
		return fmt.Errorf("read incoming directory: %w", err)
	}
	for _, e := range left {
		if err := s.quarantine(filepath.Join(incomingDir, e.Name()), "was never acknowledged"); err != nil {
			return err
		}
	}
	graves, err := os.ReadDir(s.files.at(trashDir))
	if err != nil {
		return fmt.Errorf("read deleted folders: %w", err)
	}
	for _, e := range graves {
		if err := s.retireFolder(filepath.Join(trashDir, e.Name())); err != nil {
			return fmt.Errorf("remove deleted folder: %w", err)
		}
	}
	return nil
}

// readCheckpoint reads what the last checkpoint wrote. Without it the whole log counts.
func (s *Store) readCheckpoint() error {
	text, err := os.ReadFile(s.files.at(checkpointFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	if err := json.Unmarshal(text, &s.saved); err != nil {
		s.report.Odd++
		s.log.Error("checkpoint is damaged, the whole log counts", "err", err)
		s.saved = checkpoint{}
		return s.quarantine(checkpointFile, "checkpoint is damaged")
	}
	for _, r := range s.saved.Recent {
		s.lost[r.Mailbox] = append(s.lost[r.Mailbox], r)
	}
	return nil
}

// syncBodies makes the names in the incoming directory durable, before the log speaks of them.
func (s *Store) syncBodies() error {
	made := s.bodies.Load()
	if made == s.bodiesSynced {
		return nil
	}
	if err := s.files.syncDir(incomingDir); err != nil {
		return fmt.Errorf("sync incoming directory: %w", err)
	}
	s.bodiesSynced = made
	return nil
}
