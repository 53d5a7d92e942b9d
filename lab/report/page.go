package report

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"anycastle/lab/events"
	"anycastle/lab/score"
)

// page is what both reports show.
type page struct {
	Title    string
	Began    string
	Took     string
	Passed   int
	Failed   []string // titles of the rows that did not pass
	Labs     []labLine
	Columns  []column
	Rows     [][]cell
	Sections []section
	Notes    []string // what the report has to say about itself
}

// labLine is one lab that was built.
type labLine struct{ Topology, Resolver, Up, Memory string }

type cell struct {
	Text   string
	Number bool
	Link   string // id of the row's section
	Class  string // pass or fail
}

// section is one fault, or the way back from it.
type section struct {
	ID, Title string
	Pass      bool
	Why       string
	Promise   string
	TookOver  string
	Figures   []figure
	File      string        // the plot beside the report
	Plot      template.HTML // the same, in the page
	Failures  []failure
	Said      []saidLine
	More      int // lines that there was no room for
}

type figure struct{ Name, Value string }

// saidLine is one line of what happened.
type saidLine struct {
	At, Node, Text string
	Important      bool
	Done           bool // by the lab
}

// maxSaid bounds the list of what happened in one window.
const maxSaid = 150

// newPage makes the page and the plots, by name of their file.
func newPage(run score.Run) (page, map[string]string, error) {
	p := page{
		Title: "Scoreboard: " + run.Name, Took: run.Took.Round(time.Second).String(), Columns: table(),
	}
	if !run.Began.IsZero() {
		p.Began = run.Began.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	plots := map[string]string{}
	for _, l := range run.Labs {
		p.Labs = append(p.Labs, newLabLine(l))
		said := p.said(l)
		for i, r := range l.Rows {
			id := fmt.Sprintf("%02d-%s", len(p.Sections)+1, slug(r.Fault))
			s := newSection(id, r)
			if i < len(l.Windows) {
				w := l.Windows[i]
				text, err := newTimeline(w, r, l.Events, said).svg()
				if err != nil {
					return page{}, nil, fmt.Errorf("%s: %w", r.Fault, err)
				}
				s.File, s.Plot = plotsDir+"/"+id+".svg", inPage(text, r.Fault)
				plots[s.File] = text
				s.Failures = failures(w, l.Events)
				s.Said, s.More = happened(w, said)
			}
			p.Sections = append(p.Sections, s)
			p.addRow(r, id)
		}
	}
	return p, plots, nil
}

func newLabLine(l score.Lab) labLine {
	line := labLine{Topology: l.Topology, Resolver: l.Resolver}
	if l.Up > 0 {
		line.Up = fmt.Sprintf("%.1f s", l.Up.Seconds())
	}
	if l.Memory > 0 {
		line.Memory = mebibytes(l.Memory)
	}
	return line
}

// said reads what a lab's nodes logged. A report without it is better than none.
func (p *page) said(l score.Lab) []events.Event {
	if len(l.Windows) == 0 || l.Logs == "" {
		return nil
	}
	from, to := l.Windows[0].From, l.Windows[0].To
	for _, w := range l.Windows {
		from, to = earlier(from, w.From), later(to, w.To)
	}
	log, err := events.Read(l.Logs, from.Add(-time.Minute), to)
	if err != nil {
		p.Notes = append(p.Notes, fmt.Sprintf("%s: %v", l.Topology, err))
		return nil
	}
	if log.Unread > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%s: %d lines of the nodes' logs are in no form that this report can read.", l.Topology, log.Unread))
	}
	if log.Left > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%s: %d events of the nodes are left out, as there are too many.", l.Topology, log.Left))
	}
	return log.Events
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (p *page) addRow(r score.Row, id string) {
	if r.Pass {
		p.Passed++
	} else {
		p.Failed = append(p.Failed, r.Fault)
	}
	var cells []cell
	for i, c := range p.Columns {
		is := cell{Text: c.cell(r), Number: c.IsNumber}
		if i == 0 {
			is.Link = id
		}
		if i == len(p.Columns)-1 {
			is.Class = strings.ToLower(verdict(r))
		}
		cells = append(cells, is)
	}
	p.Rows = append(p.Rows, cells)
}

func newSection(id string, r score.Row) section {
	return section{
		ID: id, Title: r.Fault, Pass: r.Pass, Why: r.Why, Promise: promise(r.Promise), TookOver: r.TookOver,
		Figures: []figure{
			{"outage at the VIP", ms(r.OutageVIPMS)},
			{"by name", ms(r.OutageNameMS)},
			{"delivery", ms(r.OutageDeliveryMS)},
			{"submission", ms(r.OutageSubmissionMS)},
			{"SMTP sessions broken", number(int64(r.ConnectionsBroken))},
			{"IDLE broken", number(int64(r.IdleBroken))},
			{"attempts failed", number(int64(r.Failed))},
			{"mails acknowledged", number(int64(r.MailsAcknowledged))},
			{"lost", number(int64(r.MailsLost))},
			{"doubled", number(int64(r.MailsDoubled))},
		},
	}
}

// happened lists what was done and said in a window, by time. Beyond the most, what is of no weight goes first.
func happened(w score.Window, said []events.Event) (lines []saidLine, more int) {
	type timed struct {
		at time.Time
		saidLine
	}
	var all []timed
	for _, m := range w.Marks {
		all = append(all, timed{m.At, saidLine{Text: oneLine(m.Text), Done: true, Important: true}})
	}
	list := during(w.From.Add(-time.Second), w.To, said)
	weighty := 0
	for _, e := range list {
		if e.Important {
			weighty++
		}
	}
	room, minor := maxSaid-min(len(all), maxSaid), 0
	for _, e := range list {
		if !e.Important {
			if minor++; minor > room-weighty {
				more++
				continue
			}
		}
		all = append(all, timed{e.Time, saidLine{Node: e.Node, Text: e.Text, Important: e.Important}})
	}
	slices.SortStableFunc(all, func(a, b timed) int { return a.at.Compare(b.at) })
	if len(all) > maxSaid {
		more += len(all) - maxSaid
		all = all[:maxSaid]
	}
	for _, t := range all {
		t.At = offset(t.at.Sub(w.From))
		lines = append(lines, t.saidLine)
	}
	return lines, more
}

// slug makes a file's name of a title.
func slug(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9')
	})
	return strings.Trim(shorten(strings.Join(words, "-"), 60), "-…")
}

// inPage fits a plot into the page: without the prologue of a file, in the page's colours, and with its name for who
// cannot see it. Its texts are escaped by who drew it.
func inPage(svg, name string) template.HTML {
	if i := strings.Index(svg, "<svg"); i >= 0 {
		svg = svg[i:]
	}
	label := template.HTMLEscapeString("Timeline: " + name)
	return template.HTML(strings.Replace(themed(svg), "<svg", `<svg role="img" aria-label="`+label+`"`, 1))
}
