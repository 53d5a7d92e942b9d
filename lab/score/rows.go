package score

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"anycastle/lab/client"
)

// Rows computes a row for each window of a lab.
func Rows(topology string, windows []Window, events []client.Event) []Row {
	var out []Row
	for _, w := range windows {
		out = append(out, row(topology, look(w, events)))
	}
	return out
}

// row computes one row. A figure that nobody can stand for fails it, with the reason.
func row(topology string, s seen) Row {
	r := Row{
		Fault: s.Fault, Scenario: s.Scenario, Back: s.Back, Topology: topology, TookOver: s.TookOver,
		MailsLost: len(s.Lost), MailsDoubled: len(s.Doubled), Promise: s.Promise.String(),
	}
	why := append([]string{}, s.Flaws...)
	measure := func(of Measure, ms *int64, d time.Duration, err error) {
		*ms = msUp(d)
		// a kind that is not under way in this lab, and of which nothing is promised, is no flaw
		if err != nil && s.Promise.about(of) {
			why = append(why, err.Error())
		}
	}
	vip, err := s.connecting(client.KindVIP)
	measure(VIP, &r.OutageVIPMS, vip, err)
	name, err := s.connecting(client.KindName)
	measure(Name, &r.OutageNameMS, name, err)
	delivery, err := s.handing(client.KindMail, func(e client.Event) string { return e.To })
	measure(Delivery, &r.OutageDeliveryMS, delivery, err)
	submission, err := s.handing(client.KindSubmit, func(e client.Event) string { return e.From })
	measure(Submission, &r.OutageSubmissionMS, submission, err)
	count(&r, s)
	if r.TookOver == "" {
		r.TookOver = strings.Join(s.servers(client.KindVIP), ", ")
	}
	if head, ok := s.Promise.Head(); ok {
		r.PromiseMS, r.PromiseOf = head.Most, head.Of
	}
	why = append(why, broken(r, s)...)
	r.Pass, r.Why = len(why) == 0, strings.Join(why, "; ")
	return r
}

// count fills in what is counted rather than timed.
func count(r *Row, s seen) {
	for _, e := range s.events {
		switch e.Kind {
		case client.KindHeld, client.KindIdle:
			countSession(r, s, e)
		case client.KindMail, client.KindSubmit:
			if e.OK && s.holds(e.End) {
				r.MailsAcknowledged++
			}
			fallthrough
		default:
			if !e.OK {
				r.Failed++
			}
		}
	}
}

// countSession counts a session that broke by the command that got no answer: that it hangs is noticed only later, maybe
// after the window. One that was ended as the protocol has it, between two commands, has lost nothing.
func countSession(r *Row, s seen, e client.Event) {
	switch {
	case e.OK || !e.Reconnect || !s.holds(e.Start):
	case e.Reason == client.ReasonBye:
		r.SessionsEnded++
	case e.Kind == client.KindHeld:
		r.ConnectionsBroken++
	default:
		r.IdleBroken++
	}
}

// broken says which promises the row does not keep.
func broken(r Row, s seen) []string {
	var why []string
	for _, t := range s.Promise {
		if got := r.Figure(t.Of); got > t.Most {
			why = append(why, fmt.Sprintf("%s: promised %s, was %s", t.Of, value(t.Of, t.Most), value(t.Of, got)))
		}
	}
	if s.Promise.about(Lost) && r.MailsAcknowledged == 0 {
		why = append(why, "not one mail was acknowledged, so none could be lost")
	}
	if s.Expect != "" {
		if ok, err := regexp.MatchString(s.Expect, r.TookOver); err != nil || !ok {
			why = append(why, fmt.Sprintf("took over: %q, expected %s", r.TookOver, s.Expect))
		}
	}
	return why
}

func value(of Measure, n int64) string {
	if of.IsOutage() {
		return fmt.Sprintf("%d ms", n)
	}
	return fmt.Sprint(n)
}

// msUp rounds up: no outage becomes none.
func msUp(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }
