package watch

import (
	"fmt"
	"slices"
	"strings"
)

// table is a list with columns and a title. Its last column takes what width is left.
type table struct {
	title string
	note  string   // beside the title
	head  []string // of the columns behind the mark
	rows  []row

	ordered bool // rows must stay in their order
}

// row is one line of a table: cells under the table's head.
type row struct {
	health Health // empty: no mark
	cells  []span
}

func newRow(h Health, cells ...string) row {
	r := row{health: h}
	for _, c := range cells {
		r.cells = append(r.cells, span{text: clean(c)})
	}
	return r
}

// in gives a column the style of a health.
func (r row) in(column int, h Health) row {
	r.cells[column].style = styleOf(h)
	return r
}

const (
	gap      = 2 // columns between two of a table
	minWidth = 6 // that a column is shortened to
)

// lines lays the table out: the title with its note, the head, and a line for each row.
func (t *table) lines(columns int) []line {
	out := []line{{{t.title, title}}}
	if t.note != "" {
		out[0] = append(out[0], span{"  " + t.note, dim})
	}
	if len(t.rows) == 0 {
		return append(out, line{{"  none", dim}})
	}
	return append(out, t.grid(columns, dim)...)
}

// grid lays out the head and the rows.
func (t *table) grid(columns int, head style) []line {
	widths := t.widths(columns - 2) // a mark and a space
	cells := make([]span, len(t.head))
	for i, h := range t.head {
		cells[i] = span{h, head}
	}
	out := []line{append(line{{"  ", plain}}, inColumns(cells, widths)...)}
	for _, r := range t.rows {
		out = append(out, append(line{mark(r.health), {" ", plain}}, inColumns(r.cells, widths)...))
	}
	for i := range out {
		out[i] = out[i].fit(columns)
	}
	return out
}

func inColumns(cells []span, widths []int) line {
	var l line
	for i, c := range cells {
		l = append(l, span{pad(c.text, widths[i]), c.style})
		if i < len(cells)-1 {
			l = append(l, span{strings.Repeat(" ", gap), plain})
		}
	}
	return l
}

// widths gives each column its natural width, and takes from the last one, then from the widest, what does not fit.
func (t *table) widths(columns int) []int {
	w := make([]int, len(t.head))
	for i, h := range t.head {
		w[i] = columnsOf(h)
		for _, r := range t.rows {
			w[i] = max(w[i], columnsOf(r.cells[i].text))
		}
	}
	sum := gap * (len(w) - 1)
	for _, n := range w {
		sum += n
	}
	last := len(w) - 1
	for over := sum - columns; over > 0; over-- {
		widest := last
		if w[last] <= 16 { // some words must stay of the last; from here on the others give too
			widest = slices.Index(w, slices.Max(w))
		}
		if w[widest] <= minWidth {
			break // what is still too wide is cut off at the edge
		}
		w[widest]--
	}
	return w
}

// top gives the first lines of a table in a space of so many, and says how many rows are left out; of these what is not
// well is not one, unless the order of the rows is their sense. A compact table has no title: its head must do.
func (t table) top(columns, height int, compact bool) []line {
	above := 2 // title and head
	if compact {
		above = 1
	}
	if height <= 0 || compact && len(t.rows) == 0 {
		return nil
	}
	left := len(t.rows) + above - height
	if left > 0 {
		if !t.ordered {
			t.rows = slices.Clone(t.rows)
			slices.SortStableFunc(t.rows, func(a, b row) int { return rankOf(b.health) - rankOf(a.health) })
		}
		t.rows = t.rows[:max(0, height-above)]
	}
	more := ""
	if left > 0 {
		more = fmt.Sprintf("%d more", min(left, left+height-above))
	}
	if compact {
		lines := t.grid(columns, title)
		if more != "" {
			lines[0] = lines[0].beside(max(0, columns-columnsOf(more)), line{{more, dim}})
		}
		return lines
	}
	t.note = strings.TrimSpace(t.note + "  " + more)
	lines := t.lines(columns)
	return lines[:min(len(lines), height)]
}

func rankOf(h Health) int {
	return map[Health]int{Bad: 2, Poor: 1}[h]
}
