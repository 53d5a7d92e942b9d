package demo

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"anycastle/lab/client"
)

// Row is one fault and what the client saw of it.
type Row struct {
	Fault             string `json:"fault"`
	OutageVIPMS       int64  `json:"outage_vip_ms"`
	OutageNameMS      int64  `json:"outage_name_ms"`
	ConnectionsBroken int    `json:"connections_broken"`
	TookOver          string `json:"took_over"`
}

// window is the time from one fault to the next.
type window struct {
	fault    string
	from, to time.Time
	tookOver string // as the lab's routes tell it; empty: as the banners tell it
}

// rows computes a row for each window. An outage that had not ended by the end of its window is an error.
func rows(windows []window, events []client.Event) ([]Row, error) {
	var out []Row
	for _, w := range windows {
		vip, err := outage(events, client.KindVIP, w)
		if err != nil {
			return out, err
		}
		name, err := outage(events, client.KindName, w)
		if err != nil {
			return out, err
		}
		r := Row{Fault: w.fault, OutageVIPMS: msUp(vip), OutageNameMS: msUp(name), TookOver: w.tookOver}
		for _, e := range events {
			// by the NOOP that got no answer: that a session hangs is noticed only later, maybe after the window
			if e.Kind == client.KindHeld && !e.OK && w.holds(e.Start) {
				r.ConnectionsBroken++
			}
		}
		if r.TookOver == "" {
			r.TookOver = strings.Join(serversAtEnd(events, w), ", ")
		}
		out = append(out, r)
	}
	return out, nil
}

func (w window) holds(t time.Time) bool { return !t.Before(w.from) && t.Before(w.to) }

// hit says whether an attempt failed that was under way when the fault came.
func (w window) hit(e client.Event) bool {
	return !e.OK && e.Start.Before(w.from) && !e.End.Before(w.from)
}

// mostPause is the pause between two attempts of the client from which on no figure may rest on them.
const mostPause = time.Second

// pauseIn is the longest time in a window in which the client began no attempt, and so would have seen no outage.
func pauseIn(w window, byStart []client.Event) time.Duration {
	var longest time.Duration
	last := w.from
	for _, e := range byStart {
		longest = max(longest, e.Start.Sub(last))
		last = e.Start
	}
	return max(longest, w.to.Sub(last))
}

// failedBetween counts by kind what failed outside every window: while a mended part came back.
func failedBetween(windows []window, events []client.Event) map[string]int {
	n := map[string]int{}
	for _, e := range events {
		inside := func(w window) bool { return w.holds(e.Start) }
		if !e.OK && !slices.ContainsFunc(windows, inside) {
			n[e.Kind]++
		}
	}
	return n
}

// clockStood wants the machine's clock to have gone as fast as time itself: all figures are differences of its readings.
func clockStood(wall, elapsed time.Duration) error {
	if off := (wall - elapsed).Abs(); off > 100*time.Millisecond {
		return fmt.Errorf("the clock was set by %v during the demo; its figures are worth nothing, run it again", off.Round(time.Millisecond))
	}
	return nil
}

// outage is the time from the start of the first failed attempt to the end of the first good one after the last
// failed attempt: while good and failed attempts alternate, the outage goes on.
func outage(events []client.Event, kind string, w window) (time.Duration, error) {
	var first, last, good *client.Event
	byStart := slices.SortedFunc(filter(events, kind, w), func(a, b client.Event) int { return a.Start.Compare(b.Start) })
	for _, e := range byStart {
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
	if pause := pauseIn(w, byStart); pause >= mostPause {
		return 0, fmt.Errorf("%s: the client began no attempt of kind %s for %v, so an outage may be missed; run it on a machine less busy",
			w.fault, kind, pause.Round(time.Millisecond))
	}
	switch {
	case first == nil:
		return 0, nil
	case good == nil:
		return 0, fmt.Errorf("%s: the %s outage had not ended after %v: %s", w.fault, kind, w.to.Sub(w.from).Round(time.Millisecond), last.Err)
	}
	return good.End.Sub(first.Start), nil
}

// filter gives what was begun in a window, and what the fault hit under way.
func filter(events []client.Event, kind string, w window) func(yield func(client.Event) bool) {
	return func(yield func(client.Event) bool) {
		for _, e := range events {
			if e.Kind == kind && (w.holds(e.Start) || w.hit(e)) && !yield(e) {
				return
			}
		}
	}
}

// serversAtEnd names the servers whose banners answered at the VIP in the window's last second.
func serversAtEnd(events []client.Event, w window) []string {
	if last := w.to.Add(-time.Second); last.After(w.from) {
		w.from = last
	}
	var names []string
	for e := range filter(events, client.KindVIP, w) {
		if e.OK && !slices.Contains(names, e.Server) {
			names = append(names, e.Server)
		}
	}
	slices.Sort(names)
	return names
}

// mails sums up what the client sent: the ids that were acknowledged, with their recipients, and how many attempts
// were deferred or cut off before that.
func mails(events []client.Event) (acknowledged map[string]string, repeated int) {
	acknowledged = map[string]string{}
	for _, e := range events {
		switch {
		case e.Kind != client.KindMail:
		case e.OK:
			acknowledged[e.ID] = e.To
		default:
			repeated++
		}
	}
	return acknowledged, repeated
}

// table lays the rows out for a terminal.
func table(rows []Row) string {
	lines := [][]string{{"fault", "outage at the VIP", "outage by DNS name", "connections broken", "what took over"}}
	var rule []string
	for _, head := range lines[0] {
		rule = append(rule, strings.Repeat("-", len(head)))
	}
	lines = append(lines, rule)
	for _, r := range rows {
		lines = append(lines, []string{r.Fault, ms(r.OutageVIPMS), ms(r.OutageNameMS), fmt.Sprint(r.ConnectionsBroken), r.TookOver})
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	w.Flush() // into memory: it cannot fail
	return b.String()
}

// msUp rounds up: no outage becomes none.
func msUp(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

func ms(n int64) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%d ms", n)
}
