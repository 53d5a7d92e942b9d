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

// mailApart is the time without a failed mail of a sender after which an outage is over: one is sent each second.
const mailApart = 3 * time.Second

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

// connecting is the outage of attempts that begin at regular times.
func (s seen) connecting(kind string) (time.Duration, error) {
	attempts := slices.DeleteFunc(s.of(kind), func(e client.Event) bool { return e.OK && !s.holds(e.Start) })
	if pause := s.pause(attempts); pause >= mostPause {
		return 0, fmt.Errorf("the client began no attempt of kind %s for %v, so an outage may be missed; run it on a machine less busy",
			kind, pause.Round(time.Millisecond))
	}
	total, err := s.outages(attempts, time.Second, func(client.Event) bool { return false })
	if err != nil {
		return total, fmt.Errorf("the %s outage %w", kind, err)
	}
	return total, nil
}

// outages adds up the outages that some attempts show. Each is from the start of the first that failed, or that was slow, to the
// end of the first good one after the last that failed. While good and failed ones alternate, it goes on; it is over when none
// has failed for as long as apart says.
func (s seen) outages(attempts []client.Event, apart time.Duration, slow func(client.Event) bool) (total time.Duration, err error) {
	var first, last, good *client.Event
	for _, e := range attempts {
		if good != nil && e.Start.Sub(good.End) >= apart && (!e.OK || slow(e)) {
			total += good.End.Sub(first.Start)
			first, last, good = nil, nil, nil
		}
		if first == nil && (!e.OK || slow(e)) {
			first = &e
		}
		switch {
		case !e.OK:
			last, good = &e, nil
		case slow(e) || first != nil && good == nil:
			good = &e
		}
	}
	switch {
	case first == nil:
		return total, nil
	case good == nil:
		return total + s.To.Sub(first.Start), fmt.Errorf("had not ended after %v: %s", s.To.Sub(s.From).Round(time.Millisecond), last.Err)
	}
	return total + good.End.Sub(first.Start), nil
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

// handing is the outage of mail that is handed over one after another by each sender. The worst sender counts; sender tells
// them apart.
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
		d, err := s.outages(by[who], mailApart, func(e client.Event) bool { return e.End.Sub(e.Start) >= slowMail })
		worst = max(worst, d)
		if err != nil && unended == nil {
			unended = fmt.Errorf("the %s outage of %s %w", kind, who, err)
		}
	}
	return worst, unended
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
