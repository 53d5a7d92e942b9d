package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const readAgain = time.Second // from one reading of a mailbox to the next, while something is missing

// Message is one that was sent under load, put together from its events.
type Message struct {
	ID           string    `json:"id"`
	Kind         string    `json:"kind"` // mail or submit
	Pod          string    `json:"pod,omitempty"`
	To           string    `json:"to"`
	LUN          string    `json:"lun,omitempty"`
	Begun        time.Time `json:"begun"`                 // the first attempt
	Acknowledged time.Time `json:"acknowledged,omitzero"` // when the server said 250; zero: never
	Attempts     int       `json:"attempts"`
	Unknown      int       `json:"unknown"`  // attempts that were sent in full and had no answer
	Deferred     int       `json:"deferred"` // attempts that the server refused
}

// Messages puts them together, in the order of their first attempts.
func Messages(events []Event) []Message {
	byID := map[string]*Message{}
	for _, e := range events {
		if e.Kind != KindMail && e.Kind != KindSubmit {
			continue
		}
		m := byID[e.ID]
		if m == nil {
			m = &Message{ID: e.ID, Kind: e.Kind, Pod: e.Pod, To: e.To, LUN: e.LUN, Begun: e.Start}
			byID[e.ID] = m
		}
		m.Attempts++
		switch {
		case e.OK:
			m.Acknowledged = e.End
		case e.Unknown:
			m.Unknown++
		case e.Code != 0:
			m.Deferred++
		}
	}
	list := make([]Message, 0, len(byID))
	for _, m := range byID {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b Message) int { return a.Begun.Compare(b.Begun) })
	return list
}

// Found is a message and how many times it is in its mailbox.
type Found struct {
	Message
	Copies int `json:"copies"`
}

// Result is what became of the messages.
type Result struct {
	Acknowledged        int     `json:"acknowledged"`
	Unacknowledged      int     `json:"unacknowledged"` // may be there, or not
	Lost                []Found `json:"lost"`           // acknowledged, and not there
	Doubled             []Found `json:"doubled"`        // there more often than the client's attempts can explain
	DoubledAfterUnknown []Found `json:"doubled_after_unknown"`
	// DoubledAfterUnknown are there again for an attempt that had no answer: SMTP cannot avoid that (RFC 5321 section 6.1).
}

// ReadBack looks for the messages in their mailboxes. What is missing is looked for again until patience is over: mail
// that was submitted may be on its way, and a LUN may be on the move.
func ReadBack(ctx context.Context, cfg Config, messages []Message, patience time.Duration) (Result, error) {
	copies := map[string]int{} // by address and id
	until := time.Now().Add(patience)
	var errs []error
	for _, p := range cfg.Pods {
		for _, box := range p.Mailboxes {
			if err := countUntil(ctx, cfg, p, box, messages, copies, until); err != nil {
				errs = append(errs, fmt.Errorf("read %s: %w", box.Address, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Result{}, err
	}
	return judge(messages, copies), nil
}

// countUntil counts a mailbox's messages, again and again while one is missing and there is time.
func countUntil(ctx context.Context, cfg Config, p Pod, box Account, messages []Message, copies map[string]int, until time.Time) error {
	for {
		ids, err := readIDs(ctx, cfg, p, box)
		if err == nil {
			found := map[string]int{}
			for _, id := range ids {
				found[id]++
			}
			missing := false
			for _, m := range messages {
				if m.To == box.Address {
					copies[key(m)] = found[m.ID]
					missing = missing || !m.Acknowledged.IsZero() && found[m.ID] == 0
				}
			}
			if !missing {
				return nil
			}
		}
		if ctx.Err() != nil || !time.Now().Before(until) {
			return err
		}
		wait(ctx, readAgain)
	}
}

func key(m Message) string { return m.To + " " + m.ID }

// judge says which messages are lost or doubled.
func judge(messages []Message, copies map[string]int) Result {
	r := Result{Lost: []Found{}, Doubled: []Found{}, DoubledAfterUnknown: []Found{}}
	for _, m := range messages {
		n := copies[key(m)]
		may := m.Unknown // how many may be there
		if m.Acknowledged.IsZero() {
			r.Unacknowledged++
		} else {
			r.Acknowledged++
			may++
			if n == 0 {
				r.Lost = append(r.Lost, Found{m, n})
			}
		}
		switch {
		case n > 1 && n > may:
			r.Doubled = append(r.Doubled, Found{m, n})
		case n > 1:
			r.DoubledAfterUnknown = append(r.DoubledAfterUnknown, Found{m, n})
		}
	}
	return r
}
