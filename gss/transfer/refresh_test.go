package transfer

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A fault that a zone's transfer brings out costs that attempt, and neither the zone nor the others.
func TestPanicOfARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, t.TempDir(), version(t, 1))
		defer f.end()
		f.set(func() { f.version = version(t, 2) })
		f.panics(true)
		f.after(time.Hour)
		f.want("1")
		f.lock.Lock()
		last := f.outcomes[len(f.outcomes)-1]
		f.lock.Unlock()
		if s := f.status(); !errors.Is(s.Err, ErrFault) || !errors.Is(last.Err, ErrFault) || !s.Good || !s.Next.Equal(start.Add(time.Hour+10*time.Minute)) {
			t.Errorf("the status is %+v, the outcome %+v", s, last)
		}
		f.panics(false)
		f.after(10 * time.Minute)
		f.want("1", "2")
	})
}
