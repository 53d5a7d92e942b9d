package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"anycastle/mailroles/maildir"
)

// restoreAtOnce is how many messages one operation puts back.
const restoreAtOnce = 500

// Restored is what a restore did.
type Restored struct {
	Folders int            `json:"folders"` // that came back
	Put     int            `json:"put"`     // messages that are back
	Bytes   int64          `json:"bytes"`
	There   int            `json:"there"` // messages that were there, and were left alone
	Moved   int            `json:"moved"` // and those that are in another place of the mailbox
	Failed  []FailedReturn `json:"failed"`
	Notes   []string       `json:"notes"`
}

// FailedReturn is a message that could not be put back.
type FailedReturn struct {
	Folder string `json:"folder"`
	UID    uint32 `json:"uid"` // that it had
	Why    string `json:"why"`
}

// Plan tells what a restore would do, and changes nothing. It can be asked at any replica. Errors are ErrNoSnapshot, ErrNotKept,
// ErrNoFolder and ErrNoMessage, among others.
func (s *Store) Plan(o RestoreOrder) (RestorePlan, error) {
	was, err := s.lookBack(&o)
	if err != nil {
		return RestorePlan{}, err
	}
	r, err := s.planRestore(o, was)
	if err != nil {
		return RestorePlan{}, err
	}
	p := r.summary()
	i := 0
	for _, b := range r.comebacks {
		for _, m := range b.list {
			list := s.sources(r, m.was, m.Message)
			p.Messages[i].Body = elsewhere
			if len(list) > 0 {
				p.Messages[i].Body = list[0].where
				p.Messages[i].Subject = subject(s.header(list))
			} else {
				p.Lacking++
			}
			i++
		}
	}
	return p, nil
}

// lookBack checks an order, and gives the mailbox as it was.
func (s *Store) lookBack(o *RestoreOrder) (*past, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	was, err := s.past(o.Mailbox, o.Point)
	if err == nil && len(was.state.folders) == 0 {
		err = fmt.Errorf("%w: there was no mailbox %s", ErrNoFolder, o.Mailbox)
	}
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", o.Mailbox, err)
	}
	return was, nil
}

func (s *Store) planRestore(o RestoreOrder, was *past) (*restoration, error) {
	now, err := s.current(o.Mailbox)
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", o.Mailbox, err)
	}
	r := &restoration{order: o, was: was, now: now, deleted: s.recallFolder}
	r.wanted = func(c *contents, m *Message) bool {
		return sameID(s.header(s.sources(r, c, m)).Get("Message-ID"), o.ID)
	}
	if err := r.plan(); err != nil {
		return nil, fmt.Errorf("restore %s: %w", o.Mailbox, err)
	}
	return r, nil
}

// Restore puts back what Plan told, durably. Doing so again changes nothing. What could be put back is, when some cannot.
func (s *Store) Restore(ctx context.Context, o RestoreOrder) (Restored, error) {
	done := Restored{Failed: []FailedReturn{}, Notes: []string{}}
	if s.replica != nil {
		if err := s.replica.admit(); err != nil {
			return done, err
		}
	}
	was, err := s.lookBack(&o) // before the mailbox is read, which would make one that is not there
	if err != nil {
		return done, err
	}
	m, err := s.Mailbox(o.Mailbox)
	if err != nil {
		return done, err
	}
	r, err := s.planRestore(o, was)
	if err != nil {
		return done, err
	}
	done.There, done.Moved, done.Notes = r.there, r.moved, append(done.Notes, r.notes...)
	for _, b := range r.comebacks {
		if err := s.comeBack(ctx, m, r, b, &done); err != nil {
			return done, fmt.Errorf("restore %s of %s: %w", b.name, o.Mailbox, err)
		}
	}
	s.log.Info("restored", "mailbox", o.Mailbox, "snapshot", r.was.snapshot.ID, "index", r.was.index, "folders", done.Folders,
		"messages", done.Put, "failed", len(done.Failed), "by", o.By)
	return done, nil
}

// comeBack brings one folder back, and messages into it.
func (s *Store) comeBack(ctx context.Context, m *Mailbox, r *restoration, b *comeback, done *Restored) error {
	guid, made, err := m.bringFolder(b)
	if err != nil {
		return err
	}
	if made {
		done.Folders++
	}
	for part := range slices.Chunk(b.list, restoreAtOnce) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.comeBackInto(ctx, m, r, guid, part, done); err != nil {
			return err
		}
	}
	return nil
}

// bringFolder gives the folder that messages come back into, and makes it when it is not there.
func (m *Mailbox) bringFolder(b *comeback) (guid string, made bool, err error) {
	err = m.operateAlone(false, func() (*op, error) {
		if b.guid != "" && m.byGUID[b.guid] != nil {
			guid = b.guid
			return nil, nil
		}
		if b.make == nil && b.guid != "" {
			return nil, ErrNoFolder // deleted since
		}
		if f := m.byName[b.name]; f != nil && b.make == nil {
			guid = f.guid
			return nil, nil
		}
		o := b.make
		if o == nil {
			var err error
			if o, err = m.creation(b.name); err != nil {
				return nil, err
			}
		} else if err := m.free(b.name); err != nil {
			return nil, err
		}
		made, guid = true, o.Folder
		return o, nil
	})
	return guid, made, err
}

// comeBackInto brings messages back into a folder by one operation.
func (s *Store) comeBackInto(ctx context.Context, m *Mailbox, r *restoration, guid string, list []returning, done *Restored) error {
	var arrivals []arrival
	var keeps []bool
	for _, msg := range list {
		k := keptOf(msg.Message)
		marks := r.marks(msg.Message)
		k.Flags, k.Keywords = marks.Flags, marks.Keywords
		k.Base = maildir.Base(s.unique(""), k.Size, k.Wide) // by the old one replicas know it as placed, or as gone
		sum, err := s.bring(ctx, r, msg, k.Base)
		if err != nil {
			if ctx.Err() != nil || s.Err() != nil {
				return err
			}
			done.Failed = append(done.Failed, FailedReturn{Folder: msg.was.name, UID: msg.UID, Why: err.Error()})
			continue
		}
		k.Sum = sum
		arrivals, keeps = append(arrivals, k.arrival()), append(keeps, msg.keep)
	}
	if len(arrivals) == 0 {
		return nil
	}
	s.bodies.Add(1)
	if s.journal != nil {
		for _, a := range arrivals {
			s.journal.Push(Body{Mailbox: m.address, Name: maildir.Unique(a.Base), Sum: a.Sum, Size: a.Size, Date: a.Date})
		}
	}
	var o *op
	err := m.operate(false, func() (_ *op, err error) {
		o, err = m.returns(guid, arrivals, keeps)
		return o, err
	})
	return errors.Join(err, s.countReturns(o, arrivals, err, done))
}

// returns makes the operation that brings messages back, but for those that somebody else brought back meanwhile.
func (m *Mailbox) returns(guid string, arrivals []arrival, keeps []bool) (*op, error) {
	f := m.byGUID[guid]
	if f == nil || f.gone {
		return nil, ErrNoFolder
	}
	o := &op{Kind: opRestore, Folder: guid}
	keywords, next := f.aheadKeywords, f.aheadNext
	for i, a := range arrivals {
		if keeps[i] {
			if _, taken := f.find(a.UID); taken {
				continue
			}
			if _, taken := f.foreseen(a.UID); taken {
				continue
			}
		} else {
			a.UID = next
			next++
		}
		if grown, err := learn(keywords, a.Keywords); err == nil { // a folder that is full of keywords knows no more
			keywords = grown
		}
		marks := tidy(keywords, Marks{Flags: a.Flags, Keywords: a.Keywords})
		a.Flags, a.Keywords = marks.Flags, marks.Keywords
		o.Arrivals = append(o.Arrivals, a)
	}
	if len(o.Arrivals) == 0 {
		return nil, nil
	}
	return o, nil
}

// countReturns counts what came back, and removes the bodies of what did not. Those that the log may have stay: the next start
// tells.
func (s *Store) countReturns(o *op, arrivals []arrival, failed error, done *Restored) error {
	taken := map[string]bool{}
	if o != nil {
		for _, a := range o.Arrivals {
			taken[a.Base] = true
			if failed == nil {
				done.Put++
				done.Bytes += a.Size
			}
		}
	}
	if s.Err() != nil {
		return nil
	}
	var errs []error
	for _, a := range arrivals {
		switch {
		case !taken[a.Base]:
			if failed == nil {
				done.There++
			}
			errs = append(errs, s.files.remove(bodyPath(a.Base)))
		case failed != nil && s.journal == nil:
			errs = append(errs, s.files.remove(bodyPath(a.Base)))
		}
	}
	return errors.Join(errs...)
}
