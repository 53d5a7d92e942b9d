package lb

import (
	"fmt"
	"slices"
	"time"

	"anycastle/lb/agent"
)

const (
	// detectWindow is how long connections that got no answer add up: more slowly than this the next probe is as good.
	detectWindow = time.Second
	// detectThreshold is how many there must be. One or two may be a client's own fault, or of a moment.
	detectThreshold = 3
)

// verdictKind says what speaks against a port of a real.
type verdictKind string

const (
	verdictRefused    verdictKind = "refused"    // nobody listens, and clients are told so
	verdictOverflow   verdictKind = "overflow"   // a process listens and takes no connections
	verdictUnanswered verdictKind = "unanswered" // connections come, and nothing answers
	verdictReset      verdictKind = "reset"      // connections come about, and the server breaks them off
)

// agentVerdict is what a detector finds in reports.
type agentVerdict struct {
	Port agent.Key
	Kind verdictKind
	Why  string // as `show real` says it
	// Conclusive says that the real is out for this port. What is not conclusive is reason enough to probe at once: SYNs
	// without an answer may be those of one client that the server's firewall ignores, and a server may have its reasons to
	// break off connections.
	Conclusive bool
}

// detector finds in one real's reports what speaks against it. It is pure: time is that of the reports.
type detector struct {
	since   time.Time
	history []sample // of the window, oldest first
}

// sample is what one report counted.
type sample struct {
	at    time.Time
	ports map[agent.Key]counts
}

// counts are those counters of a port that a verdict comes from.
type counts struct{ syns, answers, refused, overflows, resets uint64 }

// add takes a report in and gives what it speaks against. The same connections are held against a port once.
func (d *detector) add(r agent.Report) []agentVerdict {
	now := sample{at: r.At, ports: make(map[agent.Key]counts, len(r.VIPs))}
	for _, p := range r.VIPs {
		now.ports[p.Key()] = counts{p.SYNs, p.SYNACKs, p.Refused, p.Overflows, p.Resets}
	}
	if !r.Since.Equal(d.since) || len(d.history) > 0 && !r.At.After(d.history[len(d.history)-1].at) {
		// another process counts from 0, and a clock that was set back measures nothing
		d.since, d.history = r.Since, nil
	}
	d.history = slices.DeleteFunc(d.history, func(s sample) bool { return now.at.Sub(s.at) > detectWindow })
	var verdicts []agentVerdict
	for _, p := range r.VIPs {
		if v, ok := d.judge(p, now); ok {
			verdicts = append(verdicts, v)
			for _, s := range d.history {
				delete(s.ports, p.Key())
			}
		}
	}
	d.history = append(d.history, now)
	return verdicts
}

// judge looks for the shortest time in which enough has come together against a port.
func (d *detector) judge(p agent.Port, now sample) (agentVerdict, bool) {
	is := now.ports[p.Key()]
	full := p.Protocol == agent.TCP && p.Listening && p.Queue > p.Backlog
	for _, s := range slices.Backward(d.history) {
		was, ok := s.ports[p.Key()]
		grown, up := is.since(was)
		if !ok || !up {
			break // the port was not there before, or what counts has begun anew
		}
		span := now.at.Sub(s.at)
		in := span.Round(time.Millisecond)
		switch {
		case grown.refused >= detectThreshold && !p.Listening:
			// while a process listens it is a firewall that refuses, and it may have its reasons with that client
			return agentVerdict{p.Key(), verdictRefused, fmt.Sprintf("agent: refused %d connections to %v in %v", grown.refused, p.Key(), in), true}, true
		case grown.overflows >= detectThreshold && p.Protocol == agent.TCP:
			return agentVerdict{p.Key(), verdictOverflow, fmt.Sprintf("agent: accept queue overflow, %d connections to %v dropped in %v",
				grown.overflows, p.Key(), in), true}, true
		case grown.answers == 0 && grown.syns >= detectThreshold+grown.refused && (full || span >= detectWindow/2):
			// with a full queue there is no doubt whose silence it is
			return agentVerdict{p.Key(), verdictUnanswered, fmt.Sprintf("agent: %d connections to %v without answer in %v",
				grown.syns-grown.refused, p.Key(), in), full}, true
		case grown.resets >= detectThreshold && 2*grown.resets >= grown.answers && p.Protocol == agent.TCP:
			return agentVerdict{p.Key(), verdictReset, fmt.Sprintf("agent: reset %d connections to %v in %v", grown.resets, p.Key(), in), false}, true
		}
	}
	return agentVerdict{}, false
}

// since gives what was counted after c was, and whether counts only rose.
func (c counts) since(was counts) (grown counts, rose bool) {
	if c.syns < was.syns || c.answers < was.answers || c.refused < was.refused || c.overflows < was.overflows || c.resets < was.resets {
		return counts{}, false
	}
	return counts{c.syns - was.syns, c.answers - was.answers, c.refused - was.refused, c.overflows - was.overflows, c.resets - was.resets}, true
}
