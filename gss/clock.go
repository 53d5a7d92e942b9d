package gss

import "time"

const (
	clockLook = time.Minute // the wall clock is looked at, at least
	clockStep = time.Minute // by which it differs from the time that has gone by, if it was set
)

// wallClock tells when somebody sets the machine's clock: a machine without one of its own gets the time from elsewhere some
// time after its start, and one that was stopped with all that is in it goes on in another year.
type wallClock struct {
	wall, mono time.Time // of the last look; zero: there was none
}

// wasSet says whether the clock, which says now, was set since the last look.
func (c *wallClock) wasSet(now time.Time) bool {
	was := *c
	c.wall, c.mono = now.Round(0), time.Now()
	if was.wall.IsZero() {
		return false
	}
	return (c.wall.Sub(was.wall) - c.mono.Sub(was.mono)).Abs() > clockStep
}
