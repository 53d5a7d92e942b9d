package demo

import (
	"fmt"
	"slices"
	"strings"
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
		r := Row{Fault: w.fault, OutageVIPMS: vip.Milliseconds(), OutageNameMS: name.Milliseconds(), TookOver: w.tookOver}
		for _, e := range events {
			if e.Kind == client.KindHeld && !e.OK && w.holds(e.End) {
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
	switch {
	case len(byStart) == 0:
		return 0, fmt.Errorf("%s: the client made no attempt of kind %s", w.fault, kind)
	case first == nil:
		return 0, nil
	case good == nil:
		return 0, fmt.Errorf("%s: the %s outage had not ended after %v: %s", w.fault, kind, w.to.Sub(w.from).Round(time.Millisecond), last.Err)
	}
	return good.End.Sub(first.Start), nil
}

func filter(events []client.Event, kind string, w window) func(yield func(client.Event) bool) {
	return func(yield func(client.Event) bool) {
		for _, e := range events {
			if e.Kind == kind && w.holds(e.Start) && !yield(e) {
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
	head := []string{"fault", "outage at the VIP", "outage by DNS name", "connections broken", "what took over"}
	cells := [][]string{head}
	for _, r := range rows {
		cells = append(cells, []string{r.Fault, ms(r.OutageVIPMS), ms(r.OutageNameMS), fmt.Sprint(r.ConnectionsBroken), r.TookOver})
	}
	width := make([]int, len(head))
	for _, line := range cells {
		for i, c := range line {
			width[i] = max(width[i], len(c))
		}
	}
	var b strings.Builder
	for n, line := range cells {
		for i, c := range line {
			if i > 0 {
				b.WriteString("  ")
			}
			if i == len(line)-1 {
				b.WriteString(c)
			} else {
				fmt.Fprintf(&b, "%-*s", width[i], c)
			}
		}
		b.WriteByte('\n')
		if n == 0 {
			for i := range width {
				if i > 0 {
					b.WriteString("  ")
				}
				b.WriteString(strings.Repeat("-", width[i]))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func ms(n int64) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%d ms", n)
}
