package bodies

import (
	"context"
	"sync"
	"time"
)

// limiter bounds octets a second. What is larger than a second's worth passes at once, and is waited for after.
type limiter struct {
	rate int64 // not positive: unlimited

	mu   sync.Mutex
	free time.Time // what has passed is paid for then
}

// take waits until n octets may pass.
func (l *limiter) take(ctx context.Context, n int64) error {
	if l.rate <= 0 {
		return ctx.Err()
	}
	l.mu.Lock()
	now := time.Now()
	at := l.free
	if at.Before(now) {
		at = now
	}
	l.free = at.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	l.mu.Unlock()
	if at == now {
		return ctx.Err()
	}
	if !pause(ctx, at.Sub(now)) {
		return ctx.Err()
	}
	return nil
}
