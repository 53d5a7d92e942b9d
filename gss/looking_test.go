package gss

import (
	"testing"
	"testing/synctest"
	"time"
)

// Whoever looks at orders or vantages takes no news from the next decision: here that all balancers call an answer out.
func TestLookingTakesNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startTold(t)
		defer d.end()
		d.after(time.Second)
		d.says(lb1, failed)
		d.says(lb2, failed)
		news := func(forget bool) int {
			d.engine.mu.Lock()
			defer d.engine.mu.Unlock()
			if forget {
				d.engine.tellers.out = nil
			}
			return len(d.engine.tellers.out)
		}
		if news(false) == 0 {
			t.Fatal("nothing is called out")
		}
		news(true)
		d.Orders()
		d.Vantages()
		if _, err := d.engine.forget(Forget{Vantage: "gss-west"}); err == nil {
			t.Error("one that is not there is forgotten")
		}
		if news(false) > 0 {
			t.Error("the news are taken")
		}
	})
}
