package store

import (
	"context"
	"errors"
	"time"
)

// Report is what the start-up check found: of the log when the store was opened, and of each mailbox when it was first
// read.
type Report struct {
	Begun       time.Time `json:"begun"`
	Ended       time.Time `json:"ended"`       // zero while mailboxes are still to be checked
	Mailboxes   int       `json:"mailboxes"`   // checked
	Failed      int       `json:"failed"`      // mailboxes that could not be read
	Failures    []Failure `json:"failures"`    // the first 100 of them
	Replayed    int       `json:"replayed"`    // operations of the log since the last checkpoint
	Torn        int64     `json:"torn"`        // bytes of a batch that a crash tore, and that nobody was told of
	Damage      []Damage  `json:"damage"`      // of the log
	Odd         int       `json:"odd"`         // records and operations that did not fit
	Adopted     int       `json:"adopted"`     // messages that somebody else put there
	Quarantined int       `json:"quarantined"` // files put aside
	Missing     []Missing `json:"missing"`     // the first 100
	Lost        int       `json:"lost"`        // messages that have no file, all of them
	Interrupted []string  `json:"interrupted"` // snapshots that were under way when the store ended
}

// Failure is a mailbox that could not be read, and why.
type Failure struct {
	Mailbox string `json:"mailbox"`
	Why     string `json:"why"`
}

// Damage is a place of the log that cannot be read.
type Damage struct {
	Segment string `json:"segment"`
	Offset  int64  `json:"offset"`
	From    uint64 `json:"from"` // first operation that is lost
	To      uint64 `json:"to"`   // and last; less than From when none is
}

// Missing is a message that should be there and has no file.
type Missing struct {
	Mailbox string `json:"mailbox"`
	Folder  string `json:"folder"`
	UID     uint32 `json:"uid"`
	File    string `json:"file"`
}

func (r *Report) miss(m Missing) {
	if r.Lost++; len(r.Missing) < 100 {
		r.Missing = append(r.Missing, m)
	}
}

func (r *Report) fail(f Failure) {
	if r.Failed++; len(r.Failures) < 100 {
		r.Failures = append(r.Failures, f)
	}
}

// note writes into the report.
func (s *Store) note(write func(*Report)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	write(&s.report)
}

// Status is what a store knows of its LUN.
type Status struct {
	Mailboxes  int           `json:"mailboxes"`
	Messages   int64         `json:"messages"` // of the mailboxes that were read since the start
	Bytes      int64         `json:"bytes"`
	Index      uint64        `json:"index"`      // of the last operation
	Checkpoint uint64        `json:"checkpoint"` // index of the last operation that the tree has durably
	SavedAt    time.Time     `json:"saved_at"`   // when that was
	Quarantine []Quarantined `json:"quarantine"`
	Check      Report        `json:"check"`
	Early      uint64        `json:"early"`             // bodies of expunged messages that were removed early, for room
	Stopped    string        `json:"stopped,omitempty"` // why the store stopped
	Unsaved    string        `json:"unsaved,omitempty"` // why the last try of a checkpoint failed
	Unread     string        `json:"unread,omitempty"`  // why some of this is not known
}

// Status tells how the LUN is. It tells what is known when the rest cannot be read.
func (s *Store) Status() Status {
	addresses, err := s.addresses()
	quarantined, qerr := s.Quarantine()
	st := Status{Mailboxes: len(addresses), Quarantine: quarantined}
	if err := errors.Join(err, qerr); err != nil {
		st.Unread = err.Error()
	}
	st.Index, _ = s.size()
	s.mu.Lock()
	st.Checkpoint, st.SavedAt, st.Check = s.saved.Index, s.saved.Time, s.report
	st.Check.Damage = append([]Damage{}, s.report.Damage...)
	st.Check.Missing = append([]Missing{}, s.report.Missing...)
	st.Check.Failures = append([]Failure{}, s.report.Failures...)
	st.Check.Interrupted = append([]string{}, s.report.Interrupted...)
	st.Early = s.expunged.early.Load()
	if s.unsaved != nil {
		st.Unsaved = s.unsaved.Error()
	}
	if s.failure != nil {
		st.Stopped = s.failure.Error()
	}
	for address, u := range s.usage {
		if s.boxes[address] == nil {
			st.Bytes += u.Bytes
			st.Messages += u.Messages
		}
	}
	var boxes []*Mailbox
	for _, m := range s.boxes {
		boxes = append(boxes, m)
	}
	s.mu.Unlock()
	for _, m := range boxes {
		u := m.Usage()
		st.Bytes += u.Bytes
		st.Messages += u.Messages
	}
	return st
}

// Check reads each mailbox that has not been read since the start, so that what is wrong is found before somebody asks
// for it. Those that nobody asks for meanwhile are let go again.
func (s *Store) Check(ctx context.Context) {
	addresses, err := s.addresses()
	if err != nil {
		s.log.Error("check of the mailboxes ends", "err", err)
		return
	}
	for _, address := range addresses {
		if ctx.Err() != nil || s.Err() != nil {
			return
		}
		if err := s.checkBox(address); err != nil {
			s.log.Error("mailbox cannot be read", "mailbox", address, "err", err)
			s.note(func(r *Report) { r.fail(Failure{Mailbox: address, Why: err.Error()}) })
		}
		s.note(func(r *Report) { r.Mailboxes++ })
	}
	s.note(func(r *Report) { r.Ended = s.now() })
	s.checked.Store(true)
}

func (s *Store) checkBox(address string) error {
	s.mu.Lock()
	m, ok := s.boxes[address]
	if !ok {
		m = s.newBox(address)
	}
	s.mu.Unlock()
	m.loading.Lock()
	defer m.loading.Unlock()
	if err := m.load(nil); err != nil || ok {
		return err
	}
	m.mu.Lock()
	use, dirty := m.promised, m.dirty || m.lacking
	m.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !m.asked && !dirty {
		s.usage[address] = use
		delete(s.boxes, address)
	}
	return nil
}
