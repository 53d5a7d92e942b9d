package zone

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxErrors is how many errors of one zone are told; a broken file is mended from its first ones.
const maxErrors = 20

// Error is one thing that is wrong with a zone.
type Error struct {
	File string // "" when the records come from no file
	Line int    // from 1; 0 when no line is to blame
	What string // what is wrong, and the mend
}

// Error gives FILE:LINE: what; mend.
func (e Error) Error() string {
	switch {
	case e.File == "":
		return e.What
	case e.Line == 0:
		return e.File + ": " + e.What
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.What)
}

// Errors are what is wrong with a zone, in the order of the file: at most 20, and then one that says how many more.
type Errors []Error

// Error gives one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// pos is the place of a record: an index into collector.files and a line from 1, or 0.
type pos struct {
	file uint16
	line uint32
}

// collector gathers errors and knows the names of the files.
type collector struct {
	files []string
	list  []placed
	more  int
}

type placed struct {
	pos
	what string
}

func (c *collector) addf(at pos, format string, args ...any) {
	if len(c.list) >= 2*maxErrors { // some of the parser's and some of the checks
		c.more++
		return
	}
	c.list = append(c.list, placed{at, fmt.Sprintf(format, args...)})
}

// full says that it is of no use to go on reading.
func (c *collector) full() bool { return len(c.list) >= maxErrors }

// err gives nil or Errors.
func (c *collector) err() error {
	if len(c.list) == 0 {
		return nil
	}
	slices.SortStableFunc(c.list, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line))
	})
	var errs Errors
	for i, p := range c.list {
		if i == maxErrors {
			errs = append(errs, Error{What: fmt.Sprintf("and %d more", len(c.list)-i+c.more)})
			break
		}
		e := Error{Line: int(p.line), What: p.what}
		if int(p.file) < len(c.files) {
			e.File = c.files[p.file]
		}
		errs = append(errs, e)
	}
	return errs
}
