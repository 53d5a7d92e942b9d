package gss

import "time"

const (
	clockLook = time.Minute // the wall clock is looked at, at least
	clockStep = time.Minute // by which it differs from the time that has gone by, if it was set
)

// wallClock tells when somebody sets the machine's clock: a machine without one of its own gets the time from elsewhere some
// time after its start, and one that was stopped with all that is in it goes on in another year.
type wallClock struct {
	wall, mono time.Time // when it was noted; zero: never
}

// note notes what the clock says now.
func (c *wallClock) note(now time.Time) { c.wall, c.mono = now.Round(0), time.Now() }

// wasSet says whether the clock, which says now, was set since it was noted.
func (c *wallClock) wasSet(now time.Time) bool {
	return !c.wall.IsZero() && (now.Round(0).Sub(c.wall)-time.Since(c.mono)).Abs() > clockStep
}
