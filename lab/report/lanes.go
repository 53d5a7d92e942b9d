package report

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"anycastle/lab/client"
	"anycastle/lab/score"
)

// form is how a lane shows its events.
type form int

const (
	attempts form = iota // begin at regular times and are short
	mails                // take their time; a row for each mailbox
	sessions             // stay open
)

// shown is a kind of event of the client and its lanes, from the top.
type shown struct {
	kind, name string // %s in a name stands for the service
	form       form
	of         score.Measure // the figure that is written over it
}

func lanesShown() []shown {
	return []shown{
		{client.KindVIP, "SMTP at the VIP", attempts, score.VIP},
		{client.KindVIPs, "%s at the VIP", attempts, ""},
		{client.KindName, "SMTP by name", attempts, score.Name},
		{client.KindNames, "%s by name", attempts, ""},
		{client.KindMail, "delivery", mails, score.Delivery},
		{client.KindSubmit, "submission", mails, score.Submission},
		{client.KindHeld, "SMTP sessions held", sessions, score.Broken},
		{client.KindIdle, "IMAP in IDLE", sessions, score.Idle},
	}
}

// which tells the lanes of one kind apart.
type which struct{ pod, service string }

func of(e client.Event) which { return which{e.Pod, e.Service} }

func (w which) compare(o which) int {
	return cmp.Or(cmp.Compare(w.pod, o.pod), cmp.Compare(w.service, o.service))
}

// title names a lane; its pod is worth a word where there is another.
func (is shown) title(w which, pods bool) string {
	service := w.service
	if service == client.ServiceIMAP {
		service = "IMAP"
	}
	name := strings.ReplaceAll(is.name, "%s", service)
	if pods {
		name = "pod " + w.pod + ": " + name
	}
	return shorten(name, 30)
}

// severalPods says whether the client's events are of more than one pod.
func severalPods(list []client.Event) bool {
	return len(list) > 0 && slices.ContainsFunc(list, func(e client.Event) bool { return e.Pod != list[0].Pod })
}

// bar is a stretch of time, in seconds from the fault.
type bar struct{ from, to float64 }

// row is a line of a lane.
type row struct {
	good, bad []bar
	wait      []bar // mails under way
}

// step is how many sessions are open from a moment on.
type step struct {
	at   float64
	open int
}

// lane is what is drawn of one kind.
type lane struct {
	name  string
	form  form
	rows  []row
	steps []step // sessions
	most  int    // sessions that there are
	span  *span
}

// span is where an outage lay, and what is written there. A span of no length is a mark of its own.
type span struct {
	bar
	text string
}

// most of what a lane holds.
const (
	maxLanes = 24
	maxRows  = 8    // mailboxes that have a row each
	columns  = 800  // as fine as a plot can show
	maxBars  = 1500 // of each colour, in a row
)

// scale turns times into seconds from the fault, within what is drawn.
type scale struct {
	zero     time.Time
	from, to float64
}

func (s scale) of(t time.Time) float64 { return t.Sub(s.zero).Seconds() }

// unit is the width of one column.
func (s scale) unit() float64 { return (s.to - s.from) / columns }

// lanes lays out the events of a window.
func lanes(s scale, r score.Row, list []client.Event) []lane {
	by := map[string]map[which][]client.Event{}
	for _, e := range list {
		if by[e.Kind] == nil {
			by[e.Kind] = map[which][]client.Event{}
		}
		by[e.Kind][of(e)] = append(by[e.Kind][of(e)], e)
	}
	pods := severalPods(list)
	var out []lane
	for _, is := range lanesShown() {
		for _, w := range slices.SortedFunc(maps.Keys(by[is.kind]), which.compare) {
			if len(out) == maxLanes {
				return out
			}
			l := newLane(s, is, r, by[is.kind][w])
			l.name = is.title(w, pods)
			out = append(out, l)
		}
	}
	return out
}

func newLane(s scale, is shown, r score.Row, list []client.Event) lane {
	slices.SortStableFunc(list, func(a, b client.Event) int { return a.Start.Compare(b.Start) })
	l := lane{form: is.form}
	switch is.form {
	case attempts:
		l.rows = []row{attemptRow(s, list)}
	case mails:
		l.rows = mailRows(s, list)
	case sessions:
		l.steps, l.most = open(s, list)
		l.rows = []row{{bad: thin(s, breaks(s, list), s.unit())}}
	}
	l.span = where(s, is, r, list)
	return l
}

// attemptRow joins attempts that follow each other as they should: a gap is then the client's own, or a failure.
func attemptRow(s scale, events []client.Event) row {
	var good, bad []bar
	every := interval(events)
	for _, e := range events {
		b := bar{s.of(e.Start), s.of(e.Start) + every}
		if e.OK {
			good = append(good, b)
		} else {
			bad = append(bad, b)
		}
	}
	return row{good: thin(s, good, 1.5*every), bad: thin(s, bad, every/2)}
}

// interval is the usual time from one attempt to the next, in seconds.
func interval(byStart []client.Event) float64 {
	var gaps []float64
	for i := 1; i < len(byStart); i++ {
		gaps = append(gaps, byStart[i].Start.Sub(byStart[i-1].Start).Seconds())
	}
	if len(gaps) == 0 {
		return 0
	}
	slices.Sort(gaps)
	return gaps[len(gaps)/2]
}

// mailRows gives a row for each mailbox, and the last row for all that there is no room for.
func mailRows(s scale, events []client.Event) []row {
	by := map[string]*row{}
	var names []string
	for _, e := range events {
		if !slices.Contains(names, box(e)) {
			names = append(names, box(e))
		}
	}
	slices.Sort(names)
	var rows []*row
	for i, name := range names {
		if i < maxRows {
			rows = append(rows, &row{})
		}
		by[name] = rows[len(rows)-1]
	}
	for _, e := range events {
		r, from, to := by[box(e)], s.of(e.Start), s.of(e.End)
		if e.OK {
			r.good = append(r.good, bar{to, to})
		} else {
			r.bad = append(r.bad, bar{from, to})
		}
		r.wait = append(r.wait, bar{from, to})
	}
	out := make([]row, 0, len(rows))
	for _, r := range rows {
		out = append(out, row{good: thin(s, r.good, 0), bad: thin(s, r.bad, 0), wait: thin(s, r.wait, 0)})
	}
	return out
}

// box is whose mail it is.
func box(e client.Event) string { return e.To }

// thin joins bars that lie no further apart than gap, or than a plot could show, and cuts them to what is drawn.
func thin(s scale, bars []bar, gap float64) []bar {
	gap = max(gap, s.unit())
	slices.SortFunc(bars, func(a, b bar) int { return cmp.Compare(a.from, b.from) })
	var out []bar
	for _, b := range bars {
		if b.to < s.from || b.from > s.to {
			continue
		}
		b = bar{max(b.from, s.from), min(b.to, s.to)}
		if n := len(out); n > 0 && (b.from-out[n-1].to <= gap || n == maxBars) {
			out[n-1].to = max(out[n-1].to, b.to)
			continue
		}
		out = append(out, b)
	}
	return out
}

// broke says whether an event of a session means that it broke while the client needed it.
func broke(e client.Event) bool { return !e.OK && e.Reconnect }

func breaks(s scale, events []client.Event) []bar {
	var out []bar
	for _, e := range events {
		if broke(e) {
			out = append(out, bar{s.of(e.Start), s.of(e.Start)})
		}
	}
	return out
}

// open counts the sessions: open from the moment they were opened to the one of the question that had no answer.
func open(s scale, events []client.Event) (steps []step, most int) {
	type turn struct {
		at   float64
		id   string
		open bool
	}
	var turns []turn
	ids := map[string]bool{}
	for _, e := range events {
		if e.OK {
			turns = append(turns, turn{s.of(e.End), e.ID, true})
		} else {
			turns = append(turns, turn{s.of(e.Start), e.ID, false})
		}
		ids[e.ID] = false
	}
	slices.SortStableFunc(turns, func(a, b turn) int { return cmp.Compare(a.at, b.at) })
	n, now := 0, ids
	steps = []step{{at: s.from}}
	for _, t := range turns {
		if t.at > s.to {
			break
		}
		if t.open != now[t.id] {
			now[t.id] = t.open
			if n++; !t.open {
				n -= 2
			}
		}
		if last := &steps[len(steps)-1]; t.at-last.at <= s.unit() {
			last.open = n // the last of those in one column counts
			continue
		}
		steps = append(steps, step{t.at, n})
	}
	return steps, len(slices.Collect(maps.Keys(ids)))
}

// where finds the stretch that a row's figure is about.
func where(s scale, is shown, r score.Row, events []client.Event) *span {
	if is.of == "" {
		return nil
	}
	n := r.Figure(is.of)
	if n == 0 {
		return nil
	}
	if !is.of.IsOutage() {
		for _, e := range events {
			if at := s.of(e.Start); broke(e) && at >= 0 {
				return &span{bar{at, at}, count(n, "broken")}
			}
		}
		return nil
	}
	length := time.Duration(n) * time.Millisecond
	from, ok := firstFailed(s, events)
	if is.form == mails {
		from, ok = stretch(s, events, length)
	}
	if !ok {
		return nil
	}
	return &span{bar{from, from + length.Seconds()}, "outage " + ms(n)}
}

// firstFailed is where an outage of attempts begins: with the first failed one that was under way at the fault or
// began after it.
func firstFailed(s scale, events []client.Event) (float64, bool) {
	for _, e := range events {
		if !e.OK && s.of(e.End) >= 0 && s.of(e.Start) < s.to {
			return s.of(e.Start), true
		}
	}
	return 0, false
}

// stretch finds the times of one mailbox that lie a length apart, of which the later one is an acknowledgement: the
// length is a figure rounded up to a millisecond, and tells what it is about.
func stretch(s scale, list []client.Event, length time.Duration) (float64, bool) {
	times := map[string][]time.Time{} // at which an outage of a mailbox may begin
	for _, e := range list {
		times[box(e)] = append(times[box(e)], e.Start, e.End)
	}
	for _, of := range times {
		slices.SortFunc(of, time.Time.Compare)
	}
	for _, e := range list {
		if !e.OK || s.of(e.End) < 0 {
			continue
		}
		of, from := times[box(e)], e.End.Add(-length)
		if i, _ := slices.BinarySearchFunc(of, from, time.Time.Compare); i < len(of) && of[i].Sub(from) < time.Millisecond {
			return s.of(of[i]), true
		}
	}
	// an outage that had not ended by the end of the window
	i := slices.IndexFunc(list, func(e client.Event) bool { return !e.OK && s.of(e.End) >= 0 })
	if i < 0 {
		return 0, false
	}
	return s.of(list[i].Start), true
}
