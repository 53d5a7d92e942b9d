package score

import (
	"fmt"
	"slices"
	"time"

	"anycastle/lab/client"
)

// mostPause is the pause between two attempts of the client from which on no figure may rest on them.
const mostPause = time.Second

// slowMail is how long a server may take to acknowledge a mail before the time counts as an outage.
const slowMail = time.Second

// seen is a window and the client's events of it.
type seen struct {
	Window
	events []client.Event // that began in it, or that it hit under way; by start
}

func (w Window) holds(t time.Time) bool { return !t.Before(w.From) && t.Before(w.To) }

// hit says whether an attempt was under way when the fault came.
func (w Window) hit(e client.Event) bool {
	return e.Start.Before(w.From) && !e.End.Before(w.From)
}

func look(w Window, events []client.Event) seen {
	s := seen{Window: w}
	for _, e := range events {
		if (w.Pod == "" || e.Pod == w.Pod) && (w.holds(e.Start) || w.hit(e)) {
			s.events = append(s.events, e)
		}
	}
	slices.SortStableFunc(s.events, func(a, b client.Event) int { return a.Start.Compare(b.Start) })
	return s
}

// of gives the events of a kind.
func (s seen) of(kind string) []client.Event {
	var out []client.Event
	for _, e := range s.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// connecting is the outage of attempts that begin at regular times: from the start of the first failed one to the end
// of the first good one after the last failed one. While good and failed attempts alternate, the outage goes on.
func (s seen) connecting(kind string) (time.Duration, error) {
	var first, last, good *client.Event
	attempts := slices.DeleteFunc(s.of(kind), func(e client.Event) bool { return e.OK && !s.holds(e.Start) })
	for _, e := range attempts {
		switch {
		case !e.OK:
			if first == nil {
				first = &e
			}
			last, good = &e, nil
		case last != nil && good == nil:
			good = &e
		}
	}
	if pause := s.pause(attempts); pause >= mostPause {
		return 0, fmt.Errorf("the client began no attempt of kind %s for %v, so an outage may be missed; run it on a machine less busy",
			kind, pause.Round(time.Millisecond))
	}
	switch {
	case first == nil:
		return 0, nil
	case good == nil:
		return s.To.Sub(first.Start), fmt.Errorf("the %s outage had not ended after %v: %s", kind, s.To.Sub(s.From).Round(time.Millisecond), last.Err)
	}
	return good.End.Sub(first.Start), nil
}

// pause is the longest time in the window in which the client began no attempt, and so would have seen no outage.
func (s seen) pause(byStart []client.Event) time.Duration {
	var longest time.Duration
	last := s.From
	for _, e := range byStart {
		longest = max(longest, e.Start.Sub(last))
		last = e.Start
	}
	return max(longest, s.To.Sub(last))
}

// handing is the outage of mail that is handed over one after another by each sender: from the start of the first
// attempt that failed, or took longer than slowMail, to the acknowledgement that ended it. The worst sender counts;
// sender tells them apart.
func (s seen) handing(kind string, sender func(client.Event) string) (time.Duration, error) {
	attempts := s.of(kind)
	by := map[string][]client.Event{}
	var order []string
	for _, e := range attempts {
		who := sender(e)
		if by[who] == nil {
			order = append(order, who)
		}
		by[who] = append(by[who], e)
	}
	var worst time.Duration
	var unended error
	for _, who := range order {
		d, err := s.sequence(by[who])
		worst = max(worst, d)
		if err != nil && unended == nil {
			unended = fmt.Errorf("the %s outage of %s %w", kind, who, err)
		}
	}
	return worst, unended
}

// sequence is the outage of one sender.
func (s seen) sequence(attempts []client.Event) (time.Duration, error) {
	var first, last, good *client.Event
	for _, e := range attempts {
		slow := e.End.Sub(e.Start) >= slowMail
		if first == nil && (!e.OK || slow) {
			first = &e
		}
		switch {
		case !e.OK:
			last, good = &e, nil
		case slow || first != nil && good == nil:
			good = &e
		}
	}
	switch {
	case first == nil:
		return 0, nil
	case good == nil:
		return s.To.Sub(first.Start), fmt.Errorf("had not ended after %v: %s", s.To.Sub(s.From).Round(time.Millisecond), last.Err)
	}
	return good.End.Sub(first.Start), nil
}

// NamedServers names who answered at the addresses that names gave in the window's last second.
func NamedServers(w Window, events []client.Event) []string {
	return look(w, events).servers(client.KindName)
}

// servers names who answered in the window's last second.
func (s seen) servers(kind string) []string {
	from := s.From
	if last := s.To.Add(-time.Second); last.After(from) {
		from = last
	}
	var names []string
	for _, e := range s.of(kind) {
		if e.OK && !e.Start.Before(from) && !slices.Contains(names, e.Server) {
			names = append(names, e.Server)
		}
	}
	slices.Sort(names)
	return names
}
