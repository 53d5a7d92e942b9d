package main

import (
	"cmp"
	"fmt"
	"strings"

	"anycastle/mailroles/replica"
)

// replicaRows gives what is known of a LUN's replicas: a row for each thing, and for each of them.
func replicaRows(s *replica.Status, row func(what, format string, args ...any)) {
	active := cmp.Or(s.Active, "none")
	if s.ActiveFor.IsZero() {
		row("active", "%s, term %d", active, s.Term)
	} else {
		row("active", "%s, for %s, term %d", active, ago(s.ActiveFor), s.Term)
	}
	row("here", "%s is %s for %s: %s", s.Self, s.State, ago(s.Since), s.Why)
	if s.Unfit != "" {
		row("unfit", "%s", s.Unfit)
	}
	if s.Refuses != "" {
		row("refuses", "%s", s.Refuses)
	}
	switch x := s.TwoSite; {
	case x.State == "":
		row("two sites", "the active store knows; policy %s", x.Policy)
	case x.State == replica.Exposed && !x.Since.IsZero():
		row("two sites", "exposed since %s, %d operations", x.Since.Format("2006-01-02 15:04:05"), x.Operations)
	default:
		row("two sites", "%s; policy %s", x.State, x.Policy)
	}
	row("operations", "%d applied, %d committed, log from %d to %d, era %d", s.Applied, s.Committed, s.First, s.Last, s.Era)
	row("chain", "%s", cmp.Or(s.Chain, "-"))
	for _, m := range s.Members {
		row("replica "+m.Name, "%s", memberWords(m))
	}
	if c := s.CatchUp; c.Missing > 0 {
		row("catch-up", "%d bodies wanted, %d got with %d bytes in %s, %v left", c.Missing, c.Got, c.Octets, ago(c.Since), c.ETA)
	}
	scrubRows(s.Scrub, row)
	for _, m := range s.Moves {
		words := fmt.Sprintf("%s ago from %s to %s: %s", ago(m.At), cmp.Or(m.From, "none"), m.To, cmp.Or(m.Why, "-"))
		if m.By != "" {
			words += ", by " + m.By
		}
		if m.Err != "" {
			words += ", which failed: " + m.Err
		}
		row("move", "%s", words)
	}
}

func scrubRows(s replica.ScrubStatus, row func(what, format string, args ...any)) {
	if s.Begun.IsZero() {
		row("scrub", "none since the start")
		return
	}
	when := "ended " + ago(s.Ended) + " ago"
	if s.Running {
		when = "runs for " + ago(s.Begun)
	}
	row("scrub", "%s: %d mailboxes compared to %s, %d bodies, %d rotten, %d of them repaired, %d mailboxes differ", when, s.Mailboxes,
		cmp.Or(s.With, "nobody"), s.Checked, s.Rotten, s.Repaired, len(s.Differing))
	if len(s.Differing) > 0 {
		row("differing", "%s", strings.Join(s.Differing, ", "))
	}
	if s.Err != "" {
		row("scrub failed", "%s", s.Err)
	}
}

// memberWords says how a replica is.
func memberWords(m replica.MemberStatus) string {
	words := []string{m.Site}
	if m.Witness {
		words = append(words, "witness")
	}
	if m.Active {
		words = append(words, "active")
	}
	switch {
	case m.Voter:
		words = append(words, "votes")
	case m.In:
		words = append(words, "follows, no vote yet")
	default:
		words = append(words, "not in the group")
	}
	if m.Matched > 0 {
		words = append(words, fmt.Sprintf("has %d", m.Matched))
	} else if m.Applied > 0 {
		words = append(words, fmt.Sprintf("applied %d", m.Applied))
	}
	if m.Matched+m.Applied+m.Lag > 0 || m.Self { // else it is not known
		words = append(words, fmt.Sprintf("lag %d", m.Lag))
	}
	if m.Missing > 0 {
		words = append(words, fmt.Sprintf("%d bodies missing", m.Missing))
	}
	if m.Self {
		words = append(words, "this one")
	} else if m.Heard.IsZero() {
		words = append(words, "not heard here")
	} else {
		words = append(words, "heard "+ago(m.Heard)+" ago")
	}
	if !m.Fit && m.Why != "" {
		words = append(words, "unfit: "+m.Why)
	}
	return strings.Join(words, ", ")
}
