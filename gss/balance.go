package gss

import (
	"fmt"
	"net/netip"
	"slices"
)

// Basis is what an answer group's present choice rests on.
type Basis string

// The bases of a choice.
const (
	ByHealth   Basis = "health"      // the balance method chose among the answers that pass
	LastGood   Basis = "last-good"   // none passes; those that were chosen when one last did
	WholeGroup Basis = "whole-group" // none passes and none has since the start
)

// choice is what an answer group answers with: names of answers, in the order of the reply.
type choice struct {
	answers []string
	basis   Basis
}

func (c choice) equal(o choice) bool { return c.basis == o.basis && slices.Equal(c.answers, o.answers) }

// decision is everything that replies depend on beside the zone. It is never changed; a new one replaces it whole.
type decision struct {
	generation uint64
	addresses  map[string][]netip.Addr // by group
}

// ordered is the balance method of that name: the first answer that passes. lastGood is the choice when one last did,
// nil when none ever has.
func ordered(answers []string, passing func(string) bool, lastGood []string) choice {
	if i := slices.IndexFunc(answers, passing); i >= 0 {
		return choice{answers[i : i+1], ByHealth}
	}
	if lastGood != nil {
		return choice{lastGood, LastGood}
	}
	return choice{answers, WholeGroup}
}

// reason explains a choice to the operator; failing says of an answer what is wrong with it.
func (c choice) reason(group []string, failing func(string) string) string {
	switch c.basis {
	case LastGood:
		return fmt.Sprintf("none of %d answers passes; keeping the one that passed last: %s", len(group), listFailing(group, failing))
	case WholeGroup:
		return fmt.Sprintf("none of %d answers passes and none has since the start; answering with all: %s", len(group), listFailing(group, failing))
	}
	at := slices.Index(group, c.answers[0])
	if at == 0 {
		return fmt.Sprintf("%s is first in the group and passes", group[0])
	}
	return fmt.Sprintf("%s is the first that passes: %s", group[at], listFailing(group[:at], failing))
}

func listFailing(names []string, failing func(string) string) string {
	var text string
	for i, name := range names {
		if i > 0 {
			text += "; "
		}
		text += name + " fails (" + failing(name) + ")"
	}
	return text
}
