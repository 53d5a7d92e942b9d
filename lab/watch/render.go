package watch

import (
	"fmt"
	"strings"
)

// View is how a State is to be shown.
type View struct {
	Width, Height int // of the terminal, in columns and lines
	Pane          Pane
	Scroll        int    // lines of the pane that have gone off its top
	Node          string // the chosen one, on the pane of nodes
	Colour        bool
	Help          bool
	Menu          []string // choices, shown in front of the pane; none: no menu
	Choice        int      // the chosen one of Menu
	Message       string   // said in the last line instead of the keys
}

const (
	around   = 3   // lines that are not the pane's: head, tabs, keys
	wide     = 120 // columns from which on the overview has two
	minLines = 6   // and columns, below which there is nothing to see
)

// Render lays a State out as Height lines of at most Width columns, joined by line feeds. A nil State has not been
// found out yet.
func Render(s *State, v View) string {
	if v.Width < minLines || v.Height < minLines {
		return ""
	}
	screen := []line{headLine(s, v), tabsLine(v)}
	height := v.Height - around
	body := bodyLines(s, v)
	v.Scroll = clampScroll(v.Scroll, len(body), height)
	body = body[v.Scroll:]
	if len(body) > height {
		body = body[:height]
	}
	if len(v.Menu) > 0 {
		body = overlay(body, menuLines(v), height)
	}
	for len(body) < height {
		body = append(body, nil)
	}
	screen = append(append(screen, body...), keysLine(v))
	var out strings.Builder
	for i, l := range screen {
		if i > 0 {
			out.WriteByte('\n')
		}
		l.fit(v.Width).write(&out, v.Colour)
	}
	return out.String()
}

// clampScroll keeps the last line of a pane at the bottom of the screen.
func clampScroll(scroll, lines, height int) int {
	return max(0, min(scroll, lines-height))
}

func headLine(s *State, v View) line {
	if s == nil {
		return line{{"lab: looking …", strong}}
	}
	well := 0
	for _, n := range s.Nodes {
		if n.Health == Well {
			well++
		}
	}
	h := Well
	if well < len(s.Nodes) || len(s.Links) > 0 {
		h = Poor
	}
	for _, site := range s.Sites {
		if site.Health == Bad {
			h = Bad
		}
	}
	left := line{
		{"lab " + clean(s.Lab), strong}, {"  ", plain}, mark(h), {fmt.Sprintf(" %d of %d nodes well", well, len(s.Nodes)), plain},
	}
	if n := len(s.Links); n > 0 {
		left = append(left, span{", " + plural(n, "link") + " not up", poor})
	}
	clock := s.At.Format("15:04:05")
	return left.beside(max(0, v.Width-len(clock)), line{{clock, dim}})
}

func tabsLine(v View) line {
	var l line
	short := v.Width < 80
	for p := range panes {
		name := p.String()
		if short {
			name = name[:3]
		}
		st := dim
		if p == v.Pane && !v.Help {
			st = chosen
		}
		l = append(l, span{fmt.Sprintf("%d %s", p+1, name), st}, span{"  ", plain})
	}
	return l[:len(l)-1]
}

func keysLine(v View) line {
	if v.Message != "" {
		return line{{clean(v.Message), strong}}
	}
	keys := "q quit  tab pane  ↑↓ scroll  f fail  h heal  ? help"
	switch {
	case len(v.Menu) > 0:
		keys = "↑↓ choose  enter do  esc leave"
	case v.Pane == Nodes:
		keys = "q quit  tab pane  ↑↓ choose a node  f fail it  h heal it  H heal all  ? help"
	}
	return line{{keys, dim}}
}

func bodyLines(s *State, v View) []line {
	switch {
	case v.Help:
		return helpLines()
	case s == nil:
		return []line{{{"asking every node …", dim}}}
	}
	switch v.Pane {
	case Overview:
		return overview(s, v.Width, v.Height-around)
	case Nodes:
		return nodesPane(s, v)
	case VIPs:
		return stack(v.Width, vipsTable(s, false))
	case Reals:
		return stack(v.Width, realsTable(s, false))
	case Routes:
		return stack(v.Width, routesTable(s))
	case Answers:
		return stack(v.Width, namesTable(s), answersTable(s))
	case LUNs:
		return stack(v.Width, lunsTable(s), replicasTable(s))
	}
	return stack(v.Width, eventsTable(s))
}

// stack puts tables one below the other, with all their lines.
func stack(columns int, tables ...table) []line {
	var out []line
	for i, t := range tables {
		if i > 0 {
			out = append(out, nil)
		}
		out = append(out, t.lines(columns)...)
	}
	return out
}

// nodeLine is the line of the pane of nodes that the first node is on.
const nodeLine = 2

func nodesPane(s *State, v View) []line {
	nodes := nodesTable(s)
	out := stack(v.Width, nodes)
	for i, n := range s.Nodes {
		if n.Name == v.Node {
			out[i+nodeLine] = out[i+nodeLine].invert(v.Width)
		}
	}
	if len(s.Links) > 0 {
		out = append(append(out, nil), stack(v.Width, linksTable(s))...)
	}
	return out
}

// overview shows the most of everything that the screen holds: two columns of it when there is room, and the events
// over the whole width below.
func overview(s *State, columns, height int) []line {
	left := []table{sitesTable(s), vipsTable(s, true), namesTable(s), lunsTable(s)}
	if len(s.Links) > 0 {
		left = append(left[:1:1], append([]table{linksTable(s)}, left[1:]...)...)
	}
	if columns < wide {
		all := append(left, eventsTable(s))
		return fill(all, columns, height, tooMuch(all, height))
	}
	right := []table{realsTable(s, true), routesTable(s), answersTable(s)}
	half := columns/2 - 1
	upper := height * 3 / 4
	compact := tooMuch(left, upper) || tooMuch(right, upper)
	a, b := fill(left, half, upper, compact), fill(right, columns-half-2, upper, compact)
	var out []line
	for i := range max(len(a), len(b)) {
		var l, r line
		if i < len(a) {
			l = a[i]
		}
		if i < len(b) {
			r = b[i]
		}
		out = append(out, l.beside(half+2, r))
	}
	out = append(out, nil)
	return append(out, eventsTable(s).top(columns, height-len(out), false)...)
}

// tooMuch says whether some lines do not hold some tables with titles, and empty lines between them.
func tooMuch(tables []table, height int) bool {
	const some = 6 // rows of a table that has no end
	all := -1
	for _, t := range tables {
		rows := len(t.rows)
		if t.ordered {
			rows = min(rows, some)
		}
		all += rows + 3
	}
	return all > height
}

// fill shows as much of each table as a space holds, with an empty line between two unless it is to be compact. Each gets
// lines in turn until it has all that it wants, so that a long one never hides a short one.
func fill(tables []table, columns, height int, compact bool) []line {
	above, between := 2, 1
	if compact {
		above, between = 1, 0
	}
	got := share(tables, above, height-between*(len(tables)-1))
	var out []line
	for i, t := range tables {
		lines := t.top(columns, got[i], compact)
		if len(out) > 0 && len(lines) > 0 && !compact {
			out = append(out, nil)
		}
		out = append(out, lines...)
	}
	return out
}

// share gives each table its part of some lines.
func share(tables []table, above, room int) []int {
	got := make([]int, len(tables))
	for given := true; given && room > 0; {
		given = false
		for i, t := range tables {
			want := max(len(t.rows)+above, 2*above-1) // a table without rows says so in its second line
			if got[i] < want && room > 0 {
				got[i]++
				room--
				given = true
			}
		}
	}
	return got
}

func menuLines(v View) []line {
	columns := 0
	for _, m := range v.Menu {
		columns = max(columns, columnsOf(m)+2)
	}
	frame := strings.Repeat("─", columns)
	out := []line{{{"┌" + frame + "┐", strong}}}
	for i, m := range v.Menu {
		st, before := plain, " "
		if i == v.Choice {
			st, before = chosen, "▶"
		}
		out = append(out, line{{"│", strong}, {pad(before+clean(m), columns), st}, {"│", strong}})
	}
	return append(out, line{{"└" + frame + "┘", strong}})
}

// overlay puts a box in front of the pane.
func overlay(body, box []line, height int) []line {
	for len(body) < min(height, len(box)+1) {
		body = append(body, nil)
	}
	out := append([]line{}, body...)
	for i, l := range box {
		if i+1 < len(out) {
			out[i+1] = line{{"    ", plain}}.beside(4, l)
		}
	}
	return out
}

const help = `Keys
  q, ctrl-c       quit; the lab goes on
  tab, shift-tab  next and previous pane; 1 to 8 go to one
  ↑ ↓ PgUp PgDn   scroll; on the pane of nodes: choose one
  f               a menu of ways to break the chosen node, its site or its lines
  h               heal what is broken at the chosen node
  H               heal everything that is broken by hand
  ?               this help, and away with it

Marks
  ✓ well    ! works, but look    ✗ does not work

States of a node
  up       every role answers          killed   no process runs
  failing  a role has ended or says    hangs    a role does not answer
           that it cannot do its job   slow     it answers, but not in time
  off      no power                    cut      its lines lose all packets
                                       gone     the node itself has ended

Columns
  FROM     sites that announce a VIP; BY the balancers, "not" when one does not
  SITES    whether both sites have all that is acknowledged; exposed: how many
           operations only one has
  LAG      operations that a replica is behind; LACKS, MISSING: bodies that it waits for`

func helpLines() []line {
	var out []line
	for text := range strings.Lines(help) {
		text = strings.TrimSuffix(text, "\n")
		st := plain
		if text != "" && !strings.HasPrefix(text, " ") {
			st = title
		}
		out = append(out, line{{text, st}})
	}
	return out
}

// Frame is Render for a printer: without keys and without empty lines at the end. The pane is shown as far as height
// goes.
func Frame(s *State, pane Pane, width, height int, colour bool) string {
	text := Render(s, View{Width: width, Height: height, Pane: pane, Colour: colour, Message: " "})
	return strings.TrimRight(text, "\n ") + "\n"
}

// ParsePane reads the name of a pane, in lower case.
func ParsePane(name string) (Pane, error) {
	var names []string
	for p := range panes {
		if strings.ToLower(p.String()) == name {
			return p, nil
		}
		names = append(names, strings.ToLower(p.String()))
	}
	return 0, fmt.Errorf("%s: want one of %s", name, strings.Join(names, ", "))
}
