package report

import (
	"math"
	"time"

	"anycastle/lab/client"
	"anycastle/lab/events"
	"anycastle/lab/score"
)

// timeline is all that one plot shows.
type timeline struct {
	title string
	scale scale
	lanes []lane
	flags []flag
	later float64 // the window goes on to here, beyond what is drawn, and all is well there; 0: it does not
}

// What is drawn before a fault and after the last thing that happened, in seconds.
const (
	before   = 1.0
	after    = 1.5
	leastLen = 4.0
)

// newTimeline lays out a window. seen are the client's events of the whole lab, said those of its nodes.
func newTimeline(w score.Window, r score.Row, seen []client.Event, said []events.Event) timeline {
	whole := scale{w.From, -before, w.To.Sub(w.From).Seconds()}
	if !(whole.to > 0) { // a window without length: the plot is empty, and has an axis
		whole.to = leastLen
	}
	said = during(w.From.Add(-time.Duration(before*float64(time.Second))), w.To, said)
	t := timeline{title: r.Fault, scale: whole}
	t.scale.to = quietFrom(whole, r, w.Marks, seen, said)
	if t.scale.to < whole.to {
		t.later = whole.to
	}
	t.lanes = lanes(t.scale, r, within(t.scale, seen))
	t.flags = flags(t.scale, w.Marks, said)
	return t
}

// quietFrom is when nothing more happens that a plot must show.
func quietFrom(s scale, r score.Row, marks []score.Mark, seen []client.Event, said []events.Event) float64 {
	last := 0.0
	note := func(at float64) {
		if at <= s.to {
			last = max(last, at)
		}
	}
	for _, e := range seen {
		if at := s.of(e.Start); !e.OK && at > s.from {
			note(at)
			note(s.of(e.End))
		}
	}
	for _, m := range marks {
		note(s.of(m.At))
	}
	for _, g := range pick(group(said), maxFlags-min(len(marks), maxDone)) {
		note(s.of(g.at))
	}
	longest := max(r.OutageVIPMS, r.OutageNameMS, r.OutageDeliveryMS, r.OutageSubmissionMS)
	note(min(s.to, float64(longest)/1000))
	return min(s.to, max(leastLen, math.Ceil(last+after)))
}

// during gives the events from one time up to another.
func during(from, to time.Time, list []events.Event) []events.Event {
	var out []events.Event
	for _, e := range list {
		if !e.Time.Before(from) && e.Time.Before(to) {
			out = append(out, e)
		}
	}
	return out
}

// within gives what is drawn: what began or was under way then; of sessions also what was before, since they stay.
func within(s scale, seen []client.Event) []client.Event {
	var out []client.Event
	for _, e := range seen {
		stays := e.Kind == client.KindHeld || e.Kind == client.KindIdle
		if s.of(e.Start) <= s.to && (stays || s.of(e.End) >= s.from) {
			out = append(out, e)
		}
	}
	return out
}
