package group

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"anycastle/mailroles/replica/chain"
)

// Open reads the directory, checks all that the group will need from it, and brings the machine up to the last marker. It
// fails with ErrBlank when the directory is empty or what it holds cannot be trusted, with ErrDiverged when the log and
// the state have different histories, and with ErrDisk when the disk does not answer or another has it open. The caller
// must call Run, if only with a context that is done, to close it.
func Open(o Options) (*Group, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Group{
		o: o, log: o.Log.With("lun", o.LUN, "replica", o.Self), health: newHealth(), peers: newPeers(), kick: make(chan struct{}, 1),
		look: make(chan struct{}, 1),
	}
	if g.lock, err = holdDir(o.Dir); err != nil {
		return nil, err
	}
	if err := g.load(); err != nil {
		if errors.Is(err, ErrBlank) && g.gen != "" {
			err = errors.Join(err, g.condemn(err))
		}
		return nil, errors.Join(fmt.Errorf("open group %s: %w", o.LUN, err), g.closeFiles())
	}
	return g, nil
}

// condemn notes that a generation must not be used any more, whatever is read the next time.
func (g *Group) condemn(why error) error {
	return os.WriteFile(filepath.Join(g.gen, "blank"), []byte(why.Error()+"\n"), 0o600)
}

// load reads the directory.
func (g *Group) load() error {
	var err error
	if g.gen, err = current(g.o.Dir); err != nil {
		return err
	}
	if g.gen == "" {
		return fmt.Errorf("%w: %s is empty", ErrBlank, g.o.Dir)
	}
	if why, err := os.ReadFile(filepath.Join(g.gen, "blank")); err == nil {
		g.gen = "" // it stays as it is
		return fmt.Errorf("%w: it was found earlier: %s", ErrBlank, why)
	}
	if g.votes, err = openVotes(g.gen, g.health, g.o.test.faults); err != nil {
		return err
	}
	if g.marker, err = openMarker(g.gen, g.health, g.o.test.faults); err != nil {
		return err
	}
	base := g.marker.now.At
	if g.journal, err = openJournal(g.gen, base, g.o.test.segment, g.health, g.o.test.faults); err != nil {
		return err
	}
	j := g.journal
	j.keep, j.keepBytes, j.now = g.o.Keep, g.o.KeepBytes, g.o.test.now
	g.marker.settled = j.settle
	j.leads = func() bool { r := g.raft.Load(); return r != nil && r.State() == raft.Leader }
	if err := j.verify(g.marker.now); err != nil {
		return err
	}
	g.applier = &applier{machine: g.o.Machine, health: g.health, applied: g.epoch.applied, at: base}
	if g.o.Machine == nil {
		return nil
	}
	if err := g.join(base); err != nil {
		return err
	}
	j.expect = g.o.Machine.Expect
	return nil
}

// join brings the log and the state together: the state may be older than the marker, when it was restored from an older
// copy, or newer, and must in any case be of the same history.
func (g *Group) join(base chain.Position) error {
	m, tip := g.o.Machine, g.journal.tip()
	saved := m.Saved()
	if saved.Index > tip.Index {
		return fmt.Errorf("%w: the state has operation %d, and the log ends with %d", ErrBlank, saved.Index, tip.Index)
	}
	m.Expect(tip.Index)
	at := base
	if saved.Index < base.Index {
		at = saved
	}
	for i, until := at.Index+1, max(base.Index, saved.Index); i <= until; i++ {
		var l raft.Log
		if err := g.journal.entry(i, &l); errors.Is(err, raft.ErrLogNotFound) {
			continue // what is missing shows in the chain
		} else if err != nil {
			return err
		}
		if l.Type != raft.LogCommand {
			continue
		}
		f, err := parseFrame(l.Data)
		if err != nil {
			return fmt.Errorf("%w: entry %d: %w", ErrBlank, i, err)
		}
		if f.prev != at.Chain {
			return fmt.Errorf("%w: entry %d does not follow operation %d", ErrBlank, i, at.Index)
		}
		at = chain.Position{Index: i, Chain: f.head()}
		if i > saved.Index {
			if err := m.Apply(at.Index, at.Chain, f.record); err != nil {
				return fmt.Errorf("apply operation %d: %w", i, err)
			}
		}
	}
	switch want := max(base.Index, saved.Index); {
	case at.Index != want:
		return fmt.Errorf("%w: the log lacks operations between %d and %d", ErrBlank, at.Index, want)
	case saved.Index == at.Index && at != saved, base.Index == at.Index && at != base:
		return fmt.Errorf("%w: the state and the log differ at operation %d", ErrDiverged, at.Index)
	}
	g.applier.at = at
	return nil
}

// verify reads the log from the marker on, which the library is about to do and panics if it cannot.
func (j *journal) verify(n note) error {
	first, err := j.wal.FirstIndex()
	if err != nil {
		return cause("read the log", err)
	}
	last := j.last.Load()
	if last == 0 {
		return nil
	}
	if first > n.Index+1 || last < n.Index {
		return fmt.Errorf("%w: the log is from %d to %d, and the marker at %d", ErrBlank, first, last, n.Index)
	}
	at, term := n.At, uint64(0)
	for i := max(first, n.Index+1); i <= last; i++ {
		var l raft.Log
		if err := j.read(i, &l); err != nil {
			return cause("read the log", err)
		}
		if l.Term < max(term, n.Term) {
			return fmt.Errorf("%w: entry %d is of term %d, after term %d", ErrBlank, i, l.Term, max(term, n.Term))
		}
		term = l.Term
		switch l.Type {
		case raft.LogCommand:
			f, err := parseFrame(l.Data)
			if err != nil || f.prev != at.Chain {
				return fmt.Errorf("%w: entry %d does not follow operation %d", ErrBlank, i, at.Index)
			}
			at = chain.Position{Index: i, Chain: f.head()}
		case raft.LogConfiguration:
			if err := decodable(l.Data); err != nil {
				return fmt.Errorf("%w: entry %d: %w", ErrBlank, i, err)
			}
		case raft.LogNoop, raft.LogBarrier:
		default:
			return fmt.Errorf("%w: entry %d is of type %v", ErrBlank, i, l.Type)
		}
	}
	return nil
}

// decodable says whether the library can read the members of an entry; it panics if not.
func decodable(members []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("members: %w: %v", errRotten, p)
		}
	}()
	raft.DecodeConfiguration(members)
	return nil
}

// openVotes reads the votes of a generation.
func openVotes(gen string, h *health, f faults) (*votes, error) {
	file, value, err := openSlots(filepath.Join(gen, "votes"), votesHalf, f)
	if err != nil {
		return nil, cause("read the votes", err)
	}
	b, err := parseBallot(value)
	if err != nil {
		return nil, errors.Join(cause("read the votes", err), file.close())
	}
	return &votes{file: file, health: h, now: b, voteTerm: b.VoteTerm}, nil
}

// openMarker reads the marker of a generation.
func openMarker(gen string, h *health, f faults) (*marker, error) {
	file, value, err := openSlots(filepath.Join(gen, "marker"), markerHalf, f)
	if err != nil {
		return nil, cause("read the marker", err)
	}
	n, _, err := parseNote(value)
	if err != nil {
		return nil, errors.Join(cause("read the marker", err), file.close())
	}
	return &marker{file: file, health: h, now: n, settled: func(chain.Position) {}}, nil
}

// closeFiles closes what load opened, and lets the directory go.
func (g *Group) closeFiles() error {
	var errs []error
	if g.journal != nil {
		errs = append(errs, g.journal.close())
	}
	if g.marker != nil {
		errs = append(errs, g.marker.file.close())
	}
	if g.votes != nil {
		errs = append(errs, g.votes.file.close())
	}
	return errors.Join(append(errs, g.lock.Close())...)
}
