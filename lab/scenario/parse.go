package scenario

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"anycastle/lab/score"
)

// Problem is something that is wrong with a scenario's file.
type Problem struct {
	File string
	Line int
	Text string
}

func (p Problem) Error() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text) }

// Limits of what is read: a scenario is a page of text.
const (
	mostText = 64 << 10
	mostTime = 10 * time.Minute
)

// parser reads one file.
type parser struct {
	Scenario
	file    string
	section string // the one that indented lines belong to
	seen    []string
	errs    []error
}

// Parse reads a scenario. The error joins everything that is wrong with it, each a Problem.
func Parse(file, text string) (Scenario, error) {
	p := &parser{file: file, Scenario: Scenario{Name: base(file), Pod: "1"}}
	if len(text) > mostText {
		return p.Scenario, Problem{file, 1, fmt.Sprintf("longer than %d bytes", mostText)}
	}
	last := 0
	for line := range strings.Lines(text) {
		last++
		body := strings.TrimSpace(line)
		if body == "" || strings.HasPrefix(body, "#") {
			continue
		}
		verb, rest, _ := strings.Cut(body, " ")
		if tab, after, ok := strings.Cut(body, "\t"); ok && len(tab) < len(verb) {
			verb, rest = tab, after
		}
		var err error
		if line[0] == ' ' || line[0] == '\t' {
			err = p.step(last, verb, strings.TrimSpace(rest))
		} else {
			err = p.head(last, verb, strings.TrimSpace(rest))
		}
		if err != nil {
			p.fail(last, err)
		}
	}
	p.whole(max(last, 1))
	return p.Scenario, errors.Join(p.errs...)
}

func (p *parser) fail(line int, err error) {
	p.errs = append(p.errs, Problem{p.file, line, err.Error()})
}

// head reads a statement that is not indented.
func (p *parser) head(line int, verb, rest string) error {
	if slices.Contains(p.seen, verb) {
		return fmt.Errorf("%s is there twice", verb)
	}
	p.seen = append(p.seen, verb)
	switch verb {
	case "before", "fault", "back":
		p.section = verb
		if rest != "" {
			return fmt.Errorf("%s takes nothing on its line; what belongs to it is indented below", verb)
		}
		if s := p.row(); s != nil {
			s.Line = line
		}
		return nil
	case "title", "topology", "demo", "pod":
		if p.section != "" {
			return fmt.Errorf("%s belongs before the first section", verb)
		}
		if rest == "" {
			return fmt.Errorf("%s is empty", verb)
		}
	}
	switch verb {
	case "title":
		p.Title = rest
	case "topology":
		p.Topology = rest
	case "pod":
		p.Pod = rest
	case "demo":
		if rest != "yes" && rest != "no" {
			return fmt.Errorf("demo is yes or no, not %q", rest)
		}
		p.Demo = rest == "yes"
	default:
		return fmt.Errorf("unknown word %q; here may stand: title, topology, demo, pod, before, fault, back", verb)
	}
	return nil
}

// row is the section under way, when it makes a row.
func (p *parser) row() *Section {
	switch p.section {
	case "fault":
		return &p.Fault
	case "back":
		return &p.Back
	}
	return nil
}

// step reads an indented statement.
func (p *parser) step(line int, verb, rest string) error {
	if p.section == "" {
		return fmt.Errorf("%s is indented and belongs to no section", verb)
	}
	read, ok := verbs[verb]
	if !ok {
		if s := p.row(); s != nil {
			return s.property(verb, rest)
		}
		return fmt.Errorf("unknown verb %q", verb)
	}
	s := Step{Line: line, Verb: verb}
	if err := read(&s, rest); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if row := p.row(); row != nil {
		row.Steps = append(row.Steps, s)
	} else {
		p.Before = append(p.Before, s)
	}
	return nil
}

// property reads what a section has once.
func (s *Section) property(verb, rest string) (err error) {
	switch verb {
	case "promise":
		if s.Promise != nil {
			return errors.New("promise is there twice")
		}
		s.Promise, err = score.ParsePromise(rest)
	case "expect":
		if s.Expect != "" {
			return errors.New("expect is there twice")
		}
		if rest == "" {
			return errors.New("expect is empty")
		}
		s.Expect = rest
		_, err = regexp.Compile(rest)
	default:
		return fmt.Errorf("unknown verb %q", verb)
	}
	return err
}

// whole says what is missing.
func (p *parser) whole(last int) {
	for _, need := range []string{"title", "topology", "fault", "back"} {
		if !slices.Contains(p.seen, need) {
			p.fail(last, fmt.Errorf("%s is missing", need))
		}
	}
	for name, s := range map[string]Section{"fault": p.Fault, "back": p.Back} {
		if s.Line == 0 {
			continue
		}
		if s.Promise == nil {
			p.fail(s.Line, fmt.Errorf("%s promises nothing", name))
		}
		if !slices.ContainsFunc(s.Steps, func(s Step) bool { return s.Verb == "watch" }) {
			p.fail(s.Line, fmt.Errorf("%s has no watch, so nothing would be seen of it", name))
		}
	}
}

// number reads a positive number as it is used in a word.
func number(text string, most uint64) error {
	if n, err := strconv.ParseUint(text, 10, 64); err != nil || n > most {
		return fmt.Errorf("%q is no number up to %d", text, most)
	}
	return nil
}
