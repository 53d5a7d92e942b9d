package scenario

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// verbs are the statements of sections, and how the rest of the line is read.
var verbs = map[string]func(*Step, string) error{
	// what Do does
	"kill":      onNodes,   // SIGKILL every process
	"stop":      onNodes,   // SIGTERM, and wait
	"start":     onNodes,   // after kill or stop
	"pause":     onRole,    // SIGSTOP the processes of a role, or all
	"resume":    onRole,    //
	"power-off": onNodes,   // carrier gone, processes gone, memory gone
	"power-on":  onNodes,   //
	"cut":       onLinks,   // lose all packets without a sign
	"heal":      onLinks,   //
	"block":     onPort,    // lose what comes to or from a port
	"unblock":   onPort,    //
	"fill-disk": onNodes,   //
	"free-disk": onNodes,   //
	"run":       onCommand, // a command in each node; it must end well
	"until":     onUntil,   // run a command again and again until its output matches
	"replace":   onReplace, // text in the node file; `run … reload` makes it count
	"restore":   onNodes,   // the node file as it was
	"drain":     onNodes,   // reals, by an order to their balancer
	"activate":  onNodes,   //
	// what the board does
	"roll":      onNodes,    // one after another: drain, stop, start, activate, settle
	"crowd":     onCrowd,    // so many more sessions at an address; 0 ends them
	"settle":    onNothing,  // wait until all is as it was at first
	"wait":      onTime,     // so long, whatever the client sees
	"watch":     onTime,     // at least so long since the section began, and until the client is calm
	"took-over": onTookOver, // what tells who took over
}

func onNothing(_ *Step, rest string) error {
	if rest != "" {
		return errors.New("it takes nothing")
	}
	return nil
}

func onNodes(s *Step, rest string) (err error) {
	s.Nodes, err = nodes(strings.Fields(rest))
	return err
}

// nodes reads names of nodes, or labels with their values.
func nodes(words []string) (Nodes, error) {
	if len(words) == 0 {
		return nil, errors.New("which nodes?")
	}
	if !slices.Contains(labels, words[0]) {
		return words, nil
	}
	if len(words)%2 != 0 {
		return nil, fmt.Errorf("%s: a value is missing", words[len(words)-1])
	}
	for i := 0; i < len(words); i += 2 {
		if !slices.Contains(labels, words[i]) {
			return nil, fmt.Errorf("nodes have no label %q; they have: %s", words[i], strings.Join(labels, ", "))
		}
	}
	return words, nil
}

func onRole(s *Step, rest string) (err error) {
	words := strings.Fields(rest)
	if len(words) < 2 {
		return errors.New("want a role, or all, and nodes")
	}
	s.Word = words[0]
	s.Nodes, err = nodes(words[1:])
	return err
}

// onLinks reads `around NODES`, `between NODES and NODES` or `all`.
func onLinks(s *Step, rest string) (err error) {
	words := strings.Fields(rest)
	how := ""
	if len(words) > 0 {
		how = words[0]
	}
	switch how {
	case "all":
		if len(words) > 1 {
			return errors.New("all takes nothing")
		}
	case "around":
		s.Nodes, err = nodes(words[1:])
	case "between":
		i := slices.Index(words, "and")
		if i < 0 {
			return errors.New("between NODES and NODES")
		}
		if s.Nodes, err = nodes(words[1:i]); err == nil {
			s.Other, err = nodes(words[i+1:])
		}
	default:
		return errors.New("want around NODES, between NODES and NODES, or all")
	}
	s.Word = how
	return err
}

func onPort(s *Step, rest string) (err error) {
	words := strings.Fields(rest)
	if len(words) < 2 {
		return errors.New("want a port and nodes")
	}
	if err := number(words[0], 65535); err != nil {
		return err
	}
	s.Word = words[0]
	s.Nodes, err = nodes(words[1:])
	return err
}

// split cuts `NODES : REST` in two.
func split(rest string) (Nodes, string, error) {
	left, right, ok := strings.Cut(rest, " : ")
	if !ok || strings.TrimSpace(right) == "" {
		return nil, "", errors.New("want NODES : and what follows, with spaces around the colon")
	}
	n, err := nodes(strings.Fields(left))
	return n, strings.TrimSpace(right), err
}

func onCommand(s *Step, rest string) (err error) {
	s.Nodes, rest, err = split(rest)
	s.Args = strings.Fields(rest)
	return err
}

// onUntil reads `TIME NODES : COMMAND =~ REGEXP`.
func onUntil(s *Step, rest string) error {
	limit, rest, _ := strings.Cut(rest, " ")
	if err := onTime(s, limit); err != nil {
		return err
	}
	rest, pattern, ok := strings.Cut(rest, " =~ ")
	if !ok {
		return errors.New("want TIME NODES : COMMAND =~ REGEXP")
	}
	re, err := regexp.Compile(strings.TrimSpace(pattern))
	if err != nil {
		return err
	}
	s.Match = re
	return onCommand(s, rest)
}

// onReplace reads `NODES : "old" "new"`.
func onReplace(s *Step, rest string) (err error) {
	if s.Nodes, rest, err = split(rest); err != nil {
		return err
	}
	for rest != "" {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return fmt.Errorf("%s: want two texts in double quotes", rest)
		}
		text, err := strconv.Unquote(quoted)
		if err != nil || !utf8.ValidString(text) {
			return fmt.Errorf("%s: want two texts in double quotes", rest)
		}
		s.Args = append(s.Args, text)
		rest = strings.TrimSpace(rest[len(quoted):])
	}
	if len(s.Args) != 2 || s.Args[0] == "" {
		return errors.New("want two texts in double quotes, the first not empty")
	}
	return nil
}

// onCrowd reads `NUMBER ADDRESS`, or 0.
func onCrowd(s *Step, rest string) error {
	words := strings.Fields(rest)
	if len(words) == 0 || words[0] != "0" && len(words) != 2 || words[0] == "0" && len(words) != 1 {
		return errors.New("want a number of sessions and an address, or 0")
	}
	s.Word, s.Args = words[0], words[1:]
	return number(words[0], 10000)
}

func onTime(s *Step, rest string) error {
	d, err := time.ParseDuration(rest)
	if err != nil || d <= 0 || d > mostTime {
		return fmt.Errorf("%q is no time up to %v, such as 4s", rest, mostTime)
	}
	s.Time = d
	return nil
}

// onTookOver reads `banners`, `names`, `route ROUTER PREFIX` or `lun LUN`.
func onTookOver(s *Step, rest string) error {
	words := strings.Fields(rest)
	if len(words) == 0 {
		return errors.New("want banners, names, route ROUTER PREFIX or lun LUN")
	}
	s.Word, s.Args = words[0], words[1:]
	switch {
	case s.Word == "banners" && len(s.Args) == 0, s.Word == "names" && len(s.Args) == 0:
	case s.Word == "lun" && len(s.Args) == 1:
	case s.Word == "route" && len(s.Args) == 2:
		s.Nodes, s.Args = s.Args[:1], s.Args[1:]
	default:
		return errors.New("want banners, names, route ROUTER PREFIX or lun LUN")
	}
	return nil
}
