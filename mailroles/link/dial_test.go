package link

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipe is a connection of which a test sees whether it was closed.
type pipe struct {
	net.Conn
	closed bool
}

func (p *pipe) Close() error {
	p.closed = true
	return nil
}

func TestRace(t *testing.T) {
	const ms = time.Millisecond
	refused := errors.New("refused")
	type attempt struct {
		after time.Duration // until it ends
		err   error
		deaf  bool // is open before it hears that it is not wanted
	}
	never := attempt{after: time.Hour}
	for name, tc := range map[string]struct {
		attempts []attempt
		within   time.Duration
		kept     int // which attempt
		err      error
		took     time.Duration
	}{
		"at once":            {[]attempt{{after: ms}}, 5 * time.Second, 0, nil, ms},
		"slow":               {[]attempt{{after: 249 * ms}}, 5 * time.Second, 0, nil, 249 * ms},
		"a SYN is lost":      {[]attempt{{after: 1000 * ms}, {after: ms}}, 5 * time.Second, 1, nil, 251 * ms},
		"two are lost":       {[]attempt{{after: 1000 * ms}, never, {after: ms}}, 5 * time.Second, 2, nil, 751 * ms},
		"the first is first": {[]attempt{{after: 300 * ms}, never}, 5 * time.Second, 0, nil, 300 * ms},
		"refused":            {[]attempt{{after: ms, err: refused}}, 5 * time.Second, 0, refused, ms},
		"refused later":      {[]attempt{never, {after: ms, err: refused}}, 5 * time.Second, 1, refused, 251 * ms},
		"nobody answers":     {[]attempt{never, never}, 700 * ms, 0, context.DeadlineExceeded, 700 * ms},
		"two are open":       {[]attempt{{after: 300 * ms, deaf: true}, {after: 20 * ms}}, 5 * time.Second, 1, nil, 300 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), tc.within)
				defer cancel()
				var mu sync.Mutex
				var opened []*pipe
				conn, err := race(ctx, func(ctx context.Context) (net.Conn, error) {
					mu.Lock()
					a, p := tc.attempts[len(opened)], &pipe{}
					opened = append(opened, p)
					mu.Unlock()
					if a.deaf {
						ctx = context.WithoutCancel(ctx)
					}
					select {
					case <-ctx.Done():
						p.closed = true
						return nil, ctx.Err()
					case <-time.After(a.after):
						p.closed = a.err != nil
						return p, a.err
					}
				})
				if took := time.Since(start); !errors.Is(err, tc.err) || took != tc.took {
					t.Errorf("%v after %v, want %v after %v", err, took, tc.err, tc.took)
				}
				for i, p := range opened {
					if kept := err == nil && net.Conn(p) == conn; kept != (i == tc.kept && tc.err == nil) || p.closed == kept {
						t.Errorf("attempt %d of %d is kept: %v, closed: %v", i, len(opened), kept, p.closed)
					}
				}
			})
		})
	}
}
