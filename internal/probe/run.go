package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Target is one thing to probe.
type Target struct {
	Name   string // the caller's own name for it; unique within one Run
	Addr   netip.AddrPort
	Config Config
}

// Result is one finished probe.
type Result struct {
	Target  Target
	State   State // after this result
	Changed bool  // State differs from the one before
	Err     error // why this one probe failed; nil when it passed
	At      time.Time
	Took    time.Duration
}

// Func probes an address once. It must return when ctx is done.
type Func func(ctx context.Context, addr netip.AddrPort) error

// TCP connects and closes. A reset on close keeps the target's port table free of TIME_WAIT.
func TCP(ctx context.Context, addr netip.AddrPort) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return fmt.Errorf("tcp %v: %w", addr, cause(err))
	}
	if tc, ok := conn.(*net.TCPConn); ok {
		if err := tc.SetLinger(0); err != nil {
			conn.Close()
			return fmt.Errorf("tcp %v: %w", addr, err)
		}
	}
	return conn.Close()
}

// cause drops the operation and address that a net.OpError repeats.
func cause(err error) error {
	if op, ok := err.(*net.OpError); ok {
		return op.Err
	}
	return err
}

// Run probes every target until ctx is done, also when there is none, and gives ctx's error. Each finished probe is
// handed to report, one call at a time per target but concurrently for different ones. The first probes of all targets
// start within the first tenth of their interval; later ones keep their places.
func Run(ctx context.Context, targets []Target, probe Func, report func(Result)) error {
	var wg sync.WaitGroup
	for i, t := range targets {
		offset := t.Config.Interval / 10 * time.Duration(i) / time.Duration(len(targets))
		wg.Go(func() { runOne(ctx, t, offset, probe, report) })
	}
	<-ctx.Done()
	wg.Wait()
	return ctx.Err()
}

func runOne(ctx context.Context, t Target, offset time.Duration, probe Func, report func(Result)) {
	counter := NewCounter(t.Config.Fail, t.Config.Pass)
	timer := time.NewTimer(offset)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	tick := time.NewTicker(t.Config.Interval)
	defer tick.Stop()
	for {
		start := time.Now()
		once, cancel := context.WithTimeout(ctx, t.Config.Timeout)
		err := probe(once, t.Addr)
		cancel()
		if ctx.Err() != nil {
			return // our own end is no evidence about the target
		}
		state, changed := counter.Add(err)
		report(Result{Target: t, State: state, Changed: changed, Err: err, At: start, Took: time.Since(start)})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
