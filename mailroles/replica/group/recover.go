package group

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/hashicorp/raft"

	"anycastle/mailroles/replica/chain"
)

// Recover makes this member the only one of its group, in a new era: all that is in its log counts as committed. It is
// for the day when a quorum is gone for good. The members of the old era must never meet those of the new one.
func Recover(dir, self string) error {
	return closed(dir, func(gen string, v *votes, m *marker, j *journal) error {
		n := m.now
		if last := j.last.Load(); last > n.Index {
			var l raft.Log
			if err := j.read(last, &l); err != nil {
				return err
			}
			n.Index, n.Term, n.At = last, l.Term, j.tip()
		}
		// The era first: a crash in between leaves a member of the new era that waits for a quorum, never two groups of one.
		next := v.now
		next.Era, next.Term = next.Era+1, max(next.Term, n.Term)+1
		next.VoteTerm, next.Vote = 0, ""
		if err := v.file.write(next.encode()); err != nil {
			return err
		}
		n.Members, n.MembersAt = alone(self), n.Index
		return m.file.write(n.encode())
	})
}

// Inspection is what a directory says while its group is not open.
type Inspection struct {
	Era, Term   uint64
	First, Last uint64         // of the log
	Marker      chain.Position // up to here the state was brought to disk when that was last noted
	Tip         chain.Position // the last operation in the log
	Voters      []string       // of the last members in the log
	Nonvoters   []string
}

// Inspect reads a directory. It fails as Open does.
func Inspect(dir string) (Inspection, error) {
	var i Inspection
	err := closed(dir, func(_ string, v *votes, m *marker, j *journal) error {
		first, err := j.wal.FirstIndex()
		if err != nil {
			return err
		}
		i = Inspection{Era: v.now.Era, Term: v.now.Term, First: first, Last: j.last.Load(), Marker: m.now.At, Tip: j.tip()}
		members := raft.DecodeConfiguration(m.now.Members)
		for n := max(m.now.Index+1, first); n <= i.Last; n++ {
			var l raft.Log
			if err := j.read(n, &l); err != nil {
				return err
			}
			if l.Type == raft.LogConfiguration {
				members = raft.DecodeConfiguration(l.Data)
			}
		}
		for _, s := range members.Servers {
			if s.Suffrage == raft.Voter {
				i.Voters = append(i.Voters, string(s.ID))
			} else {
				i.Nonvoters = append(i.Nonvoters, string(s.ID))
			}
		}
		return nil
	})
	return i, err
}

// closed does something with the files of a directory whose group is not open.
func closed(dir string, do func(gen string, v *votes, m *marker, j *journal) error) error {
	o := Options{Dir: dir}
	o.test.segment = 16 << 20
	g := &Group{o: o, health: newHealth()}
	var err error
	if g.lock, err = holdDir(dir); err != nil {
		return err
	}
	if err = g.load(); err == nil {
		err = do(g.gen, g.votes, g.marker, g.journal)
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w", filepath.Clean(dir), err)
	}
	return errors.Join(err, g.closeFiles())
}
