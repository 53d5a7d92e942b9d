package scenario

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"anycastle/lab/scenarios"
	"anycastle/lab/score"
	"anycastle/lab/topology"
)

// Scenario is one fault and the way back from it.
type Scenario struct {
	Name     string // of the file, without .txt
	Title    string
	Topology string
	Demo     bool
	Pod      string // whose client is measured; "1" unless given
	Before   []Step // made ready outside any row
	Fault    Section
	Back     Section
}

// Section is what makes one row.
type Section struct {
	Line    int // 0: there is none
	Promise score.Promise
	Expect  string // a regular expression; empty: none
	Steps   []Step // all others, in order
}

// Step is one statement.
type Step struct {
	Line  int
	Verb  string
	Nodes Nodes         // of verbs that are about nodes
	Other Nodes         // cut, heal: the far side; none means all others
	Time  time.Duration // watch, until
	Word  string        // pause, resume: role; took-over: what tells; block, unblock: port; crowd: number
	Args  []string      // run, until: command; replace: old and new
	Match *regexp.Regexp
}

// String gives the statement as it was written, with single spaces.
func (s Step) String() string {
	words := []string{s.Verb}
	if s.Time > 0 {
		words = append(words, s.Time.String())
	}
	if s.Word != "" {
		words = append(words, s.Word)
	}
	words = append(words, s.Nodes...)
	if len(s.Other) > 0 {
		words = append(append(words, "and"), s.Other...)
	}
	if len(s.Args) > 0 {
		words = append(append(words, ":"), s.Args...)
	}
	return strings.Join(words, " ")
}

// Nodes picks nodes of a topology: names, or pairs of a label and its values.
type Nodes []string

// labels are what nodes can be picked by.
var labels = []string{"site", "role", "pod", "layer"}

// Pick names the nodes, in the topology's order.
func (n Nodes) Pick(t *topology.Topology) ([]string, error) {
	var picked []string
	if len(n) > 0 && slices.Contains(labels, n[0]) {
		for _, node := range t.Nodes {
			if n.fits(node) {
				picked = append(picked, node.Name)
			}
		}
		if len(picked) == 0 {
			return nil, fmt.Errorf("no node of %s has %s", t.Name, strings.Join(n, " "))
		}
		return picked, nil
	}
	for _, name := range n {
		if _, ok := t.Node(name); !ok {
			return nil, fmt.Errorf("%s has no node %q", t.Name, name)
		}
	}
	return n, nil
}

// fits says whether a node has all the labels.
func (n Nodes) fits(node topology.Node) bool {
	for i := 0; i+1 < len(n); i += 2 {
		have := node.Labels["anycastle-"+n[i]]
		if n[i] == "site" {
			have = node.Group
		}
		if !slices.Contains(strings.Split(n[i+1], ","), have) {
			return false
		}
	}
	return true
}

// All reads the scenarios of the binary, by name. Those of one topology come one after another.
func All() ([]Scenario, error) { return read(scenarios.Files()) }

// read reads every .txt file of a folder.
func read(files fs.FS) ([]Scenario, error) {
	entries, err := fs.Glob(files, "*.txt")
	if err != nil {
		return nil, fmt.Errorf("list scenarios: %w", err)
	}
	var all []Scenario
	var errs []error
	for _, name := range entries {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read scenario: %w", err)
		}
		s, err := Parse(name, string(text))
		errs = append(errs, err)
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b Scenario) int { return strings.Compare(b.Topology, a.Topology) })
	return all, errors.Join(errs...)
}

// Check says what of the scenario does not fit its topology.
func (s Scenario) Check(t *topology.Topology) error {
	var errs []error
	for _, step := range slices.Concat(s.Before, s.Fault.Steps, s.Back.Steps) {
		for _, n := range []Nodes{step.Nodes, step.Other} {
			if _, err := n.Pick(t); err != nil {
				errs = append(errs, Problem{File: s.Name + ending, Line: step.Line, Text: err.Error()})
			}
		}
	}
	return errors.Join(errs...)
}

const ending = ".txt"

// base gives the name of a scenario from that of its file.
func base(file string) string { return strings.TrimSuffix(path.Base(file), ending) }
