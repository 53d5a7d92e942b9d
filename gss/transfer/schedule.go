package transfer

import (
	"time"

	"github.com/miekg/dns"
)

// Bounds of the timers that a primary's SOA record gives (RFC 1912 section 2.2): a slip in it makes us neither hammer the
// primary nor never ask again.
const (
	minWait = 10 * time.Second
	maxWait = 24 * time.Hour

	firstWait = 2 * time.Second // after the first failure to get a zone of which there is no version yet; doubles
	lastWait  = 5 * time.Minute
)

// schedule says when to ask the primaries of a zone again, and until when the zone is good. It is pure.
type schedule struct {
	soa       *dns.SOA // of the version that we have; nil: none
	refreshed time.Time
	failures  int // since then
}

// wait is how long to wait after an attempt, by a random number from 0 to 1, so that the secondaries of a primary spread.
func (s *schedule) wait(random float64) time.Duration {
	var d time.Duration
	switch {
	case s.soa == nil:
		d = min(firstWait<<min(max(s.failures-1, 0), 10), lastWait)
	case s.failures > 0:
		d = bounded(s.soa.Retry)
	default:
		d = bounded(s.soa.Refresh)
	}
	return d - time.Duration(random*float64(d)/10)
}

func bounded(seconds uint32) time.Duration {
	return min(max(time.Duration(seconds)*time.Second, minWait), maxWait)
}

// expires is when the zone is no longer good (RFC 1034 section 4.3.5). It is never so before it was to be refreshed and that
// was tried again.
func (s *schedule) expires() time.Time {
	if s.soa == nil {
		return time.Time{}
	}
	d := max(time.Duration(s.soa.Expire)*time.Second, bounded(s.soa.Refresh)+bounded(s.soa.Retry))
	return s.refreshed.Add(d)
}
