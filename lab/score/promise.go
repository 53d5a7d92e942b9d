package score

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Measure names one figure of a row.
type Measure string

// The measures. The first four are outages in milliseconds, the others are counts.
const (
	VIP        Measure = "vip"        // outage at the VIP
	Name       Measure = "name"       // outage by DNS name
	Delivery   Measure = "delivery"   // the longest that one mailbox got no mail
	Submission Measure = "submission" // the longest that one user could send none
	Broken     Measure = "broken"     // SMTP sessions held open that broke
	Idle       Measure = "idle"       // IMAP sessions in IDLE that broke
	Failed     Measure = "failed"     // attempts that failed, of all kinds
	Lost       Measure = "lost"       // acknowledged mails that are missing
	Doubled    Measure = "doubled"    // acknowledged mails that are there more than once
)

var (
	outages = []Measure{VIP, Name, Delivery, Submission}
	counts  = []Measure{Broken, Idle, Failed, Lost, Doubled}
)

// IsOutage says whether the measure is a time.
func (m Measure) IsOutage() bool { return slices.Contains(outages, m) }

// Term is one promise: a figure is at most so much.
type Term struct {
	Of   Measure `json:"of"`
	Most int64   `json:"most"` // milliseconds of an outage, else a count
}

// String gives the term as ParsePromise reads it.
func (t Term) String() string {
	if t.Of.IsOutage() && t.Most > 0 {
		return fmt.Sprintf("%s %v", t.Of, time.Duration(t.Most)*time.Millisecond)
	}
	return fmt.Sprintf("%s %d", t.Of, t.Most)
}

// Promise is what the design promises of a fault. The first outage in it is the one that promise_ms is about.
type Promise []Term

// String gives the promise as ParsePromise reads it.
func (p Promise) String() string {
	var terms []string
	for _, t := range p {
		terms = append(terms, t.String())
	}
	return strings.Join(terms, ", ")
}

// Head is the first promise about an outage.
func (p Promise) Head() (t Term, ok bool) {
	i := slices.IndexFunc(p, func(t Term) bool { return t.Of.IsOutage() })
	if i < 0 {
		return Term{}, false
	}
	return p[i], true
}

// about says whether the promise has a term for the measure.
func (p Promise) about(m Measure) bool {
	return slices.ContainsFunc(p, func(t Term) bool { return t.Of == m })
}

// ParsePromise reads "vip 1s, name 8s, broken 0".
func ParsePromise(text string) (Promise, error) {
	var p Promise
	for part := range strings.SplitSeq(text, ",") {
		t, err := parseTerm(strings.Fields(part))
		if err != nil {
			return nil, err
		}
		if p.about(t.Of) {
			return nil, fmt.Errorf("%s is promised twice", t.Of)
		}
		p = append(p, t)
	}
	return p, nil
}

func parseTerm(words []string) (Term, error) {
	if len(words) != 2 {
		return Term{}, fmt.Errorf("promise %q: want a measure and the most it may be, such as \"vip 1s\"", strings.Join(words, " "))
	}
	m := Measure(words[0])
	switch {
	case m.IsOutage():
		d, err := time.ParseDuration(words[1])
		if err != nil || d < 0 || d%time.Millisecond != 0 {
			return Term{}, fmt.Errorf("promise of %s: %q is no time in whole milliseconds, such as 500ms or 0", m, words[1])
		}
		return Term{m, d.Milliseconds()}, nil
	case slices.Contains(counts, m):
		n, err := strconv.ParseUint(words[1], 10, 31)
		if err != nil {
			return Term{}, fmt.Errorf("promise of %s: %q is no count", m, words[1])
		}
		return Term{m, int64(n)}, nil
	}
	return Term{}, fmt.Errorf("nothing is measured that is called %q; there are: %s", m, names(append(slices.Clone(outages), counts...)))
}

func names(list []Measure) string {
	var all []string
	for _, m := range list {
		all = append(all, string(m))
	}
	return strings.Join(all, ", ")
}
