package replica

import (
	"cmp"
	"fmt"
	"time"
)

// Explain says in words why the LUN is active where it is, whether it acknowledges, and what keeps others from being active.
func (s Status) Explain() []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	switch {
	case s.Active == "":
		say("No replica is active: none leads the group as far as %s knows.", s.Self)
		s.explainQuorum(say)
	case s.Active == s.Self && s.Serving:
		say("%s is active: it was elected in term %d, %s ago, and a quorum confirms its lease.", s.Self, s.Term, since(s.ActiveFor))
	case s.Active == s.Self:
		say("%s leads the group in term %d, and no quorum confirms its lease: it answers nobody.", s.Self, s.Term)
	default:
		say("%s is active, in term %d; %s is %s: %s.", s.Active, s.Term, s.Self, s.State, s.Why)
	}
	for i := len(s.Moves) - 1; i >= 0 && i >= len(s.Moves)-3; i-- {
		m := s.Moves[i]
		say("It was moved from %s to %s %s ago: %s%s.", cmp.Or(m.From, "none"), m.To, since(m.At), m.Why, failed(m.Err))
	}
	switch {
	case s.Active != s.Self:
	case s.Refuses != "":
		say("It does not acknowledge: %s.", s.Refuses)
	case s.TwoSite.State == Exposed && s.TwoSite.Since.IsZero():
		say("It acknowledges, and nothing is heard of the other site: what comes will be exposed.")
	case s.TwoSite.State == Exposed:
		say("It acknowledges, and nothing is heard of the other site: exposed since %s, %d operations.", s.TwoSite.Since.Format(time.DateTime), s.TwoSite.Operations)
	default:
		say("It acknowledges what is on disk at %s.", BothSites)
	}
	if s.Unfit != "" {
		say("%s must not be active: %s.", s.Self, s.Unfit)
	}
	for _, m := range s.Members {
		if why := m.unable(); why != "" && !m.Self {
			say("%s at %s cannot be active now: %s.", m.Name, m.Site, why)
		}
	}
	return lines
}

// explainQuorum says who is missing for a leader to be elected.
func (s Status) explainQuorum(say func(format string, args ...any)) {
	heard, voters := 0, 0
	for _, m := range s.Members {
		if !m.Voter {
			continue
		}
		voters++
		if m.Self || time.Since(m.Heard) < siteGone {
			heard++
		}
	}
	if voters > 0 {
		say("%d of %d votes are heard here, %d are needed.", heard, voters, voters/2+1)
	}
}

func (m MemberStatus) unable() string {
	switch {
	case m.Witness || m.Active:
		return ""
	case m.Why != "":
		return m.Why
	case !m.In:
		return "it is not in the group"
	case !m.Voter:
		return "it has no vote yet"
	case m.Missing > 0:
		return fmt.Sprintf("it waits for %d bodies", m.Missing)
	}
	return ""
}

func since(t time.Time) string { return time.Since(t).Round(time.Second).String() }

func failed(err string) string {
	if err == "" {
		return ""
	}
	return ", which failed: " + err
}
