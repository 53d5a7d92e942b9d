package queue

import (
	"cmp"
	"slices"
	"time"
)

// Status is one entry, as it is shown.
type Status struct {
	ID         string            `json:"id"`
	Arrived    time.Time         `json:"arrived"`
	Size       int64             `json:"size"` // bytes
	From       string            `json:"from"` // empty for a report
	User       string            `json:"user,omitempty"`
	Held       string            `json:"held,omitempty"`    // why nobody tries it
	Deleted    bool              `json:"deleted,omitempty"` // it goes when the attempt under way has ended
	Recipients []RecipientStatus `json:"recipients"`
}

// RecipientStatus is one of its recipients.
type RecipientStatus struct {
	Address  string     `json:"address"`
	State    State      `json:"state"`
	Attempts int        `json:"attempts"`       // of its destination
	Next     *time.Time `json:"next,omitempty"` // attempt; none while it is held or under way
	Running  bool       `json:"running,omitempty"`
	Last     string     `json:"last,omitempty"` // reply, or why there was none
	Host     string     `json:"host,omitempty"` // that said so
	TLS      string     `json:"tls,omitempty"`  // by which the message went
	At       time.Time  `json:"at,omitzero"`    // of the last attempt
}

// Status gives all entries, the oldest first.
func (q *Queue) Status() []Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]Status, 0, len(q.entries))
	for _, e := range q.entries {
		s := Status{ID: e.ID, Arrived: e.Arrived, Size: e.Size, From: e.From, User: e.User, Held: e.Held, Deleted: e.Deleted}
		for _, l := range e.Legs {
			for _, r := range l.Recipients {
				is := RecipientStatus{
					Address: r.Address, State: r.State, Attempts: l.Attempts, Running: l.busy && r.State == Waiting,
					Host: r.Host, TLS: r.TLS, At: r.At,
				}
				if r.Code != 0 {
					is.Last = r.reply().String()
				}
				if r.State == Waiting && l.index >= 0 {
					next := l.Next
					is.Next = &next
				}
				s.Recipients = append(s.Recipients, is)
			}
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Summary is the queue as a whole.
type Summary struct {
	Entries    int    `json:"entries"`
	Held       int    `json:"held"` // of the entries
	Recipients int    `json:"recipients"`
	Sessions   int    `json:"sessions"`  // attempts under way
	SetAside   int    `json:"set_aside"` // damaged entries and debris, since the start
	Oldest     string `json:"oldest,omitempty"`
	Counts
}

// Summary tells how the queue is.
func (q *Queue) Summary() Summary {
	counts, _, _ := q.stats.read()
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Summary{Entries: len(q.entries), Recipients: q.waiting, Sessions: q.schedule.active, SetAside: q.aside, Counts: counts}
	for id, e := range q.entries {
		if e.Held != "" {
			s.Held++
		}
		if s.Oldest == "" || id < s.Oldest {
			s.Oldest = id
		}
	}
	return s
}
