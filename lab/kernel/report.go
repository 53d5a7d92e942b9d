package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// report follows the events of a run, and says in the end whether the run is good.
type report struct {
	out      io.Writer
	kernel   string
	expected []testRun
	ended    map[string]bool
	lines    []string // of the package that runs
	counts   map[string]int
	total    int
	faults   []error
	done     bool
}

func newReport(out io.Writer, expected []testRun) *report {
	return &report{out: out, expected: expected, ended: map[string]bool{}, counts: map[string]int{}}
}

// A line of the test binary's own, as opposed to one that a test printed, begins with this under -test.v=test2json.
const marker = "\x16"

var outcome = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+)`)

func (r *report) take(e event) {
	switch {
	case e.Kernel != "":
		r.kernel = e.Kernel
		fmt.Fprintf(r.out, "kernel %s\n", e.Kernel)
	case e.Begin != "":
		r.lines, r.counts = nil, map[string]int{}
	case e.Line != "":
		r.takeLine(e.Line)
	case e.End != nil:
		r.end(*e.End)
	case e.Err != "":
		r.faults = append(r.faults, fmt.Errorf("init: %s", e.Err))
	case e.Done:
		r.done = true
	}
}

func (r *report) takeLine(line string) {
	text, own := strings.CutPrefix(line, marker)
	if m := outcome.FindStringSubmatch(text); own && m != nil {
		r.counts[m[1]]++
		if m[1] == "PASS" {
			return
		}
	}
	r.lines = append(r.lines, text)
}

func (r *report) end(e ended) {
	r.ended[e.Package] = true
	passed := r.counts["PASS"]
	r.total += passed
	fmt.Fprintf(r.out, "%s: %d passed, %d failed, %d skipped in %.1f s\n", e.Package, passed, r.counts["FAIL"], r.counts["SKIP"], e.Seconds)
	var fault string
	switch {
	case e.Result != "":
		fault = e.Result
	case r.counts["FAIL"] > 0:
		fault = "a test failed, and the binary does not say so"
	case r.counts["SKIP"] > 0:
		fault = "a test was skipped"
	case passed == 0:
		fault = "no test ran"
	default:
		return
	}
	r.faults = append(r.faults, fmt.Errorf("%s: %s", e.Package, fault))
	r.printLines()
}

func (r *report) printLines() {
	for _, l := range r.lines {
		fmt.Fprintf(r.out, "    %s\n", l)
	}
	r.lines = nil
}

// close takes how the machine ended, and what its kernel wrote. It gives nil for a good run.
func (r *report) close(machine error, console string) error {
	if !r.done {
		r.printLines()
		r.faults = append(r.faults, errors.New("the machine stopped before init was done"))
	}
	for _, t := range r.expected {
		if !r.ended[t.Package] {
			r.faults = append(r.faults, fmt.Errorf("%s: not run to its end", t.Package))
		}
	}
	if machine != nil {
		r.faults = append(r.faults, machine)
	}
	if c := complaint(console); c != "" {
		r.faults = append(r.faults, fmt.Errorf("the kernel complains:\n%s", c))
	}
	if err := errors.Join(r.faults...); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "kernel %s: %d tests passed, 0 failed\n", r.kernel, r.total)
	return nil
}

// What a kernel writes at the begin of a report of a fault of its own.
var complaints = regexp.MustCompile(`(?m)^.*(BUG: |Oops: |Kernel panic|WARNING: |general protection fault|UBSAN: |Call Trace:).*$`)

// complaint gives the first complaint and some lines that follow.
func complaint(console string) string {
	at := complaints.FindStringIndex(console)
	if at == nil {
		return ""
	}
	lines := strings.SplitN(strings.ReplaceAll(console[at[0]:], "\r", ""), "\n", 41)
	return strings.Join(lines[:min(len(lines), 40)], "\n")
}
