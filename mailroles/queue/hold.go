package queue

import (
	"context"
	"sync"
	"time"
)

// Hold has no attempt begin until release is called, and waits until those that are under way have ended, or ctx has. It is for
// a moment at which another process takes the queue over: an attempt that is cut off may have to be made again.
func (q *Queue) Hold(ctx context.Context) (release func()) {
	q.mu.Lock()
	q.holds++
	q.mu.Unlock()
	tick := time.NewTicker(holdLook)
	defer tick.Stop()
	for q.underWay() > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return sync.OnceFunc(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.holds--
		q.poke()
	})
}

// holdLook is how often Hold looks.
const holdLook = 5 * time.Millisecond

func (q *Queue) underWay() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.schedule.active
}
