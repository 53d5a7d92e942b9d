package firewall

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Status is what the kernel has counted since Apply.
type Status struct {
	Rules  []RuleStatus `json:"rules"`  // in the order of the config
	Errors Count        `json:"errors"` // ICMP errors that passed
	Drops  []Drop       `json:"drops"`  // for each two zones, also those without any
}

// RuleStatus is one rule of the config.
type RuleStatus struct {
	Number  int    `json:"number"` // from 1
	Text    string `json:"text"`
	Passed  Count  `json:"passed"`
	Answers Count  `json:"answers"`
}

// Drop is what no rule has let pass between two zones.
type Drop struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Dropped Count  `json:"dropped"`
}

// Count is a number of packets and their bytes.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func (c *Count) add(other Count) {
	c.Packets += other.Packets
	c.Bytes += other.Bytes
}

// ErrNone means that this node has no firewall.
var ErrNone = errors.New("this node has no firewall; net.firewall in its node file makes one")

// Read asks the kernel, in the calling thread's network namespace. The error is ErrNone when Apply has made no rules.
func Read() (*Status, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	table, err := inForce(c)
	switch {
	case err != nil:
		return nil, err
	case table == nil:
		return nil, ErrNone
	}
	rules, err := c.GetRules(table, &nftables.Chain{Name: chainName})
	if err != nil {
		return nil, fmt.Errorf("list firewall rules: %w", err)
	}
	s := &Status{Rules: []RuleStatus{}, Drops: []Drop{}}
	for _, r := range rules {
		s.take(comment(r), counted(r.Exprs))
	}
	return s, nil
}

func counted(exprs []expr.Any) Count {
	for _, e := range exprs {
		if c, ok := e.(*expr.Counter); ok {
			return Count{c.Packets, c.Bytes}
		}
	}
	return Count{}
}

// label says what a rule of the kernel is for. It is kept in the rule's comment, so that the kernel alone is asked, and
// `nft list ruleset` explains itself.
type label struct {
	rule     int // from 1; 0 for none
	back     bool
	text     string
	from, to string // of a drop
}

// maxComment is what the kernel keeps, less its frame.
const maxComment = 250

func (l label) comment() string {
	text := l.text
	switch {
	case l.rule > 0 && l.back:
		text = fmt.Sprintf("back %d %s", l.rule, l.text)
	case l.rule > 0:
		text = fmt.Sprintf("allow %d %s", l.rule, l.text)
	case l.from != "":
		text = fmt.Sprintf("drop %s %s", l.from, l.to)
	}
	if len(text) > maxComment {
		text = text[:maxComment-3] + "..."
	}
	return text
}

func parseLabel(comment string) label {
	kind, rest, _ := strings.Cut(comment, " ")
	first, text, _ := strings.Cut(rest, " ")
	switch kind {
	case "allow", "back":
		if n, err := strconv.Atoi(first); err == nil && n > 0 {
			return label{rule: n, back: kind == "back", text: text}
		}
	case "drop":
		if first != "" && text != "" {
			return label{from: first, to: text}
		}
	}
	return label{text: comment}
}

// take adds what one rule of the kernel has counted. A rule of the config is several there, one after the other.
func (s *Status) take(comment string, n Count) {
	switch l := parseLabel(comment); {
	case l.rule > 0:
		if len(s.Rules) == 0 || s.Rules[len(s.Rules)-1].Number != l.rule {
			s.Rules = append(s.Rules, RuleStatus{Number: l.rule, Text: l.text})
		}
		rule := &s.Rules[len(s.Rules)-1]
		if l.back {
			rule.Answers.add(n)
		} else {
			rule.Passed.add(n)
		}
	case l.from != "":
		s.Drops = append(s.Drops, Drop{l.from, l.to, n})
	case comment == icmpErrors:
		s.Errors.add(n)
	}
}
