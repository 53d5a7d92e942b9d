package phase

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestTicker has tickers that were made at different times tick at once.
func TestTicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := time.Now()
		for _, late := range []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond} {
			time.Sleep(late)
			tick := NewTicker(since, time.Second)
			defer tick.Stop()
			for range 3 {
				<-tick.C
				tick.Next()
				if off := time.Since(since) % time.Second; off != 0 {
					t.Errorf("a tick is %v after its time", off)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		if w := Wait(time.Now(), time.Second); w != time.Second {
			t.Errorf("the next multiple is in %v", w)
		}
		if w := Wait(time.Time{}, time.Second); w != time.Second {
			t.Errorf("the next multiple since no time is in %v", w)
		}
	})
}
