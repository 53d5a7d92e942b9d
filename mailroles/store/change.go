package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"anycastle/mailroles/maildir"
)

// SetFlags gives each of the messages the marks that change makes of its present ones, durably. UIDs that are not
// there are passed over. change must not alter or keep what it is given. The error is ErrKeywords when the folder has
// no room for a new keyword, or maildir.ErrKeywordName. After an error nothing is changed.
func (f *Folder) SetFlags(uids []uint32, change func(Marks) Marks) error {
	return f.box.operate(true, func() (*op, error) {
		if f.gone {
			return nil, f.lost()
		}
		keywords := f.aheadKeywords
		byMarks := map[string]int{}
		o := &op{Kind: opFlags, Folder: f.guid}
		for _, uid := range uids {
			m, ok := f.foreseen(uid)
			if !ok {
				continue
			}
			marks := change(m.Marks)
			var err error
			if keywords, err = learn(keywords, marks.Keywords); err != nil {
				return nil, err
			}
			if marks = tidy(keywords, marks); marks.Equal(m.Marks) {
				continue
			}
			key := marks.Flags.String() + " " + strings.Join(marks.Keywords, " ")
			i, ok := byMarks[key]
			if !ok {
				i = len(o.Markings)
				byMarks[key] = i
				o.Markings = append(o.Markings, marking{Flags: marks.Flags, Keywords: marks.Keywords})
			}
			o.Markings[i].UIDs = append(o.Markings[i].UIDs, uid)
		}
		if len(o.Markings) == 0 {
			return nil, nil
		}
		return o, nil
	})
}

func (f *Folder) lost() error { return fmt.Errorf("%w: %s", ErrNoFolder, f.name) }

// Expunge removes the messages that are flagged as deleted and that which chooses, durably.
func (f *Folder) Expunge(which func(uid uint32) bool) error {
	return f.box.operate(true, func() (*op, error) {
		if f.gone {
			return nil, f.lost()
		}
		o := &op{Kind: opExpunge, Folder: f.guid}
		for _, m := range f.messages {
			now, ok := f.foreseen(m.UID)
			if ok && now.Flags&maildir.Deleted != 0 && which(m.UID) {
				o.Gone = append(o.Gone, maildir.UIDEntry{UID: m.UID, Base: m.base})
			}
		}
		if len(o.Gone) == 0 {
			return nil, nil
		}
		return o, nil
	})
}

// Pair is a message's UID before and after it was copied.
type Pair struct{ From, To uint32 }

// Copy copies messages into a folder of the same mailbox: all of them, or none when there is an error. UIDs that are
// not there are passed over. Errors are those of Mailbox.Folder, ErrQuota and ErrKeywords.
func (f *Folder) Copy(uids []uint32, dest string) (validity uint32, pairs []Pair, err error) {
	return f.transfer(opCopy, uids, dest, f.box.operate)
}

// Move moves messages as Copy copies them.
func (f *Folder) Move(uids []uint32, dest string) (validity uint32, pairs []Pair, err error) {
	return f.transfer(opMove, uids, dest, f.box.operate)
}

// transfer gives the messages' files second names in the incoming directory, as their bytes never change, and from
// there on does as with messages that come.
func (f *Folder) transfer(k kind, uids []uint32, dest string, do carrier) (uint32, []Pair, error) {
	var t transfer
	err := do(k == opMove, func() (*op, error) {
		to, err := f.box.find(dest)
		if err != nil {
			return nil, err
		}
		if f.gone {
			return nil, f.lost()
		}
		t.validity = to.validity
		return t.build(k, f, to, uids)
	})
	if err != nil {
		return 0, nil, errors.Join(err, t.undo(f.box.store))
	}
	return t.validity, t.pairs, nil
}

type transfer struct {
	validity uint32
	pairs    []Pair
	linked   []string // in the incoming directory
}

func (t *transfer) build(k kind, f, to *Folder, uids []uint32) (*op, error) {
	o := &op{Kind: k, Folder: f.guid, To: to.guid}
	keywords, next := to.aheadKeywords, to.aheadNext
	var size int64
	var sources []*Message
	uids = slices.Clone(uids)
	slices.Sort(uids)
	for _, uid := range slices.Compact(uids) {
		i, there := f.find(uid)
		now, stays := f.foreseen(uid)
		if !there || !stays {
			continue
		}
		m := f.messages[i]
		var err error
		if keywords, err = learn(keywords, now.Keywords); err != nil {
			return nil, err
		}
		size += m.Size
		o.Arrivals = append(o.Arrivals, arrival{
			UID: next, From: uid, Flags: now.Flags, Keywords: now.Keywords, Size: m.Size, Wide: m.Wide, Date: m.Date.Unix(), Sum: m.Sum,
			Base: maildir.Base(f.box.store.unique(""), m.Size, m.Wide),
		})
		sources = append(sources, m)
		t.pairs = append(t.pairs, Pair{From: uid, To: next})
		if k == opMove {
			o.Gone = append(o.Gone, maildir.UIDEntry{UID: uid, Base: m.base})
		}
		next++
	}
	if len(o.Arrivals) == 0 {
		return nil, nil
	}
	if k == opCopy {
		if err := f.box.fits(size, int64(len(o.Arrivals))); err != nil {
			return nil, err
		}
	}
	if f.box.store.replica != nil { // each replica makes the names when it does the operation
		o.proofs = f.box.proofs(sources)
		return o, nil
	}
	for i, a := range o.Arrivals {
		at, _ := f.find(t.pairs[i].From)
		if err := f.box.store.files.link(f.path(f.messages[at]), bodyPath(a.Base)); err != nil {
			return nil, fmt.Errorf("copy message: %w", err)
		}
		t.linked = append(t.linked, a.Base)
	}
	f.box.store.bodies.Add(1)
	return o, nil
}

// undo removes the second names after an error. When the log may have the operation all the same they stay: the next
// start tells.
func (t *transfer) undo(s *Store) error {
	if s.Err() != nil {
		return nil
	}
	var errs []error
	for _, base := range t.linked {
		errs = append(errs, s.files.remove(bodyPath(base)))
	}
	return errors.Join(errs...)
}
