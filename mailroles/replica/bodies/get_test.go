package bodies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"anycastle/mailroles/store"
)

func TestGet(t *testing.T) {
	list := newReplicas(t, "east", "east", "west")
	f := giving(t, list)
	var all sync.WaitGroup
	for i := range 4 {
		b := list[2].store.add(t, fmt.Sprintf("m%d", i), content(i<<20, 1))
		for range 2 * maxGets {
			all.Go(func() {
				if err := f.Get(t.Context(), b); err != nil || !list[0].store.HasBody(b) {
					t.Errorf("get: %v", err)
				}
			})
		}
	}
	all.Wait()
	if len(f.flights) > 0 {
		t.Errorf("%d calls are still waited for", len(f.flights))
	}
	list[1].stop()
	if err := f.Get(t.Context(), bodyOf("none", nil)); err == nil || errors.Is(err, store.ErrNoMessage) {
		t.Errorf("get what an absent peer may have: %v", err)
	}
	list[2].relay.freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := f.Get(ctx, bodyOf("none", nil)); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > quick.Timeout {
		t.Errorf("get of a silent peer: %v after %s", err, time.Since(began))
	}
}

// TestGetGoesOnForOthers has the call that others wait for be given up.
func TestGetGoesOnForOthers(t *testing.T) {
	list := newReplicas(t, "east", "west")
	f := giving(t, list)
	b := list[1].store.add(t, "m", content(1000, 1))
	asked, release := make(chan struct{}, 10), make(chan struct{})
	list[1].store.opening = func(Body) error {
		asked <- struct{}{}
		<-release
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() {
		if err := f.Get(ctx, b); !errors.Is(err, context.Canceled) {
			t.Errorf("get that is given up: %v", err)
		}
	})
	<-asked
	both.Go(func() {
		if err := f.Get(t.Context(), b); err != nil {
			t.Errorf("get of another: %v", err)
		}
	})
	cancel()
	<-asked
	close(release)
}
