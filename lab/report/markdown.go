package report

import (
	"fmt"
	"strings"
)

// markdown writes the page as Markdown.
func (p page) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", md(p.Title))
	if p.Began != "" {
		fmt.Fprintf(&b, "Begun %s, took %s. ", p.Began, p.Took)
	}
	fmt.Fprintf(&b, "%d of %d rows pass.\n\n", p.Passed, len(p.Rows))
	for _, t := range p.Failed {
		fmt.Fprintf(&b, "- **FAIL**: %s\n", md(t))
	}
	for _, l := range p.Labs {
		fmt.Fprintf(&b, "- %s\n", md(l.String()))
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "- %s\n", md(n))
	}
	b.WriteString("\n")
	p.mdTable(&b)
	for _, s := range p.Sections {
		s.markdown(&b)
	}
	return b.String()
}

// String says what is known of the lab.
func (l labLine) String() string {
	text := "lab " + l.Topology
	if l.Up != "" {
		text += ", up in " + l.Up
	}
	if l.Memory != "" {
		text += ", memory of all nodes " + l.Memory
	}
	if l.Resolver != "" {
		text += ", names by " + l.Resolver
	}
	return text
}

func (p page) mdTable(b *strings.Builder) {
	for _, c := range p.Columns {
		fmt.Fprintf(b, "| %s ", c.Head)
	}
	b.WriteString("|\n")
	for _, c := range p.Columns {
		if c.IsNumber {
			b.WriteString("|--:")
		} else {
			b.WriteString("|---")
		}
	}
	b.WriteString("|\n")
	for _, row := range p.Rows {
		for _, c := range row {
			text := md(c.Text)
			if c.Class != "" {
				text = "**" + text + "**"
			}
			fmt.Fprintf(b, "| %s ", text)
		}
		b.WriteString("|\n")
	}
}

func (s section) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n", md(s.Title))
	result := "pass"
	if !s.Pass {
		result = "FAIL: " + s.Why
	}
	fmt.Fprintf(b, "**%s**. Promised: %s. Took over: %s.\n", md(result), md(orNothing(s.Promise)), md(orNothing(s.TookOver)))
	if s.File != "" {
		fmt.Fprintf(b, "\n![timeline](%s)\n", s.File)
	}
	if len(s.Failures) > 0 {
		b.WriteString("\n| what failed | times | first | last | error |\n|---|--:|--:|--:|---|\n")
		for _, f := range s.Failures {
			fmt.Fprintf(b, "| %s | %d | %s | %s | %s |\n", md(f.What), f.Count, offset(f.First), offset(f.Last), md(f.Error))
		}
	}
	if len(s.Said) == 0 {
		return
	}
	b.WriteString("\n")
	minor := s.More
	for _, l := range s.Said {
		if !l.Important {
			minor++
			continue
		}
		who := "**lab**"
		if !l.Done {
			who = md(l.Node)
		}
		fmt.Fprintf(b, "- `%s` %s: %s\n", l.At, who, md(l.Text))
	}
	if minor > 0 {
		fmt.Fprintf(b, "- and %d lines of less weight\n", minor)
	}
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// md keeps a text from being Markdown or HTML, and on one line.
func md(text string) string {
	var b strings.Builder
	for _, r := range oneLine(text) {
		switch {
		case r == '<':
			b.WriteString("&lt;")
		case r == '&':
			b.WriteString("&amp;")
		case strings.ContainsRune("\\`*_[]|#>", r):
			b.WriteRune('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
