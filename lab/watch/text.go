package watch

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// style is how a piece of text looks on a terminal with colours.
type style int

const (
	plain style = iota
	dim
	strong
	title
	good
	poor
	bad
	chosen // the row that keys act on
)

// sgr holds the terminal's code of each style (ECMA-48, Select Graphic Rendition).
var sgr = [...]string{plain: "", dim: "2", strong: "1", title: "1;36", good: "32", poor: "33", bad: "1;31", chosen: "7"}

// styleOf gives the style of a health.
func styleOf(h Health) style {
	switch h {
	case Well:
		return good
	case Poor:
		return poor
	case Bad:
		return bad
	}
	return plain
}

// mark says a health in one column, for those who see no colours.
func mark(h Health) span {
	text := map[Health]string{Well: "✓", Poor: "!", Bad: "✗"}[h]
	if text == "" {
		text = " "
	}
	return span{text, styleOf(h)}
}

// span is text of one style. Its text holds only characters that take one column; clean makes them so.
type span struct {
	text  string
	style style
}

// line is a line of the screen.
type line []span

// clean makes text safe for a terminal: logs and names may hold anything. What would move the cursor, or take no
// column or two, becomes a question mark or goes.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Cf, r):
			return -1
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		switch width.LookupRune(r).Kind() {
		case width.EastAsianWide, width.EastAsianFullwidth:
			return '?'
		}
		return r
	}, s)
}

// cut shortens text to some columns; what is shortened ends with a mark.
func cut(s string, columns int) string {
	r := []rune(s)
	if len(r) <= columns {
		return s
	}
	if columns <= 0 {
		return ""
	}
	return string(r[:columns-1]) + "…"
}

// pad makes text exactly as wide as some columns.
func pad(s string, columns int) string {
	s = cut(s, columns)
	return s + strings.Repeat(" ", columns-columnsOf(s))
}

func columnsOf(s string) int { return len([]rune(s)) }

// columns says how wide a line is.
func (l line) columns() int {
	n := 0
	for _, s := range l {
		n += columnsOf(s.text)
	}
	return n
}

// fit makes a line at most so wide.
func (l line) fit(columns int) line {
	var out line
	for _, s := range l {
		if columns <= 0 {
			break
		}
		s.text = cut(s.text, columns)
		columns -= columnsOf(s.text)
		out = append(out, s)
	}
	return out
}

// beside puts another line to the right, from a column on.
func (l line) beside(column int, right line) line {
	l = l.fit(column)
	gap := column - l.columns()
	return append(append(l, span{strings.Repeat(" ", gap), plain}), right...)
}

// invert marks a row of a table as the chosen one, over the whole width, and with an arrow behind its mark.
func (l line) invert(columns int) line {
	var text strings.Builder
	for i, s := range l {
		if i == 1 {
			s.text = "▶"
		}
		text.WriteString(s.text)
	}
	return line{{pad(text.String(), columns), chosen}}
}

// write gives the line as the terminal takes it, without spaces at its end.
func (l line) write(out *strings.Builder, colour bool) {
	for len(l) > 0 && l[len(l)-1].style != chosen && strings.TrimRight(l[len(l)-1].text, " ") == "" {
		l = l[:len(l)-1]
	}
	for i, s := range l {
		if i == len(l)-1 && s.style != chosen {
			s.text = strings.TrimRight(s.text, " ")
		}
		if !colour || sgr[s.style] == "" {
			out.WriteString(s.text)
			continue
		}
		out.WriteString("\x1b[" + sgr[s.style] + "m" + s.text + "\x1b[0m")
	}
}
