// Package phase has what a process does from time to time fall on the same moments: one that is idle pays for each time that it
// is woken, and then does all that is due.
package phase

import "time"

// Wait gives how long it is to the next multiple of a period since a time; a whole one without a time. It is never zero.
func Wait(since time.Time, period time.Duration) time.Duration {
	if since.IsZero() {
		return period
	}
	return period - time.Since(since)%period
}

// Ticker is one of package time whose ticks fall on the multiples of its period since a time.
type Ticker struct {
	C <-chan time.Time
	*time.Ticker
	since  time.Time
	period time.Duration
}

// NewTicker makes a ticker, which must be stopped. Next is to be called after each tick.
func NewTicker(since time.Time, period time.Duration) *Ticker {
	t := time.NewTicker(Wait(since, period))
	return &Ticker{C: t.C, Ticker: t, since: since, period: period}
}

// Next sets the time of the next tick.
func (t *Ticker) Next() { t.Reset(Wait(t.since, t.period)) }
