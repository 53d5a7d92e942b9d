package bodies

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter{rate: 1000}
		began := time.Now()
		for _, step := range []struct {
			octets int64
			want   time.Duration // since the beginning, when they pass
		}{
			{500, 0}, {500, 500 * time.Millisecond}, {10_000, time.Second}, {1, 11 * time.Second},
		} {
			if err := l.take(t.Context(), step.octets); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(began); got != step.want {
				t.Errorf("%d octets passed after %s, want %s", step.octets, got, step.want)
			}
		}
		<-time.After(time.Hour) // a pause is no credit
		for i, want := range []time.Duration{0, time.Second} {
			began := time.Now()
			if err := l.take(t.Context(), 1000); err != nil || time.Since(began) != want {
				t.Errorf("after the pause, %d: %v after %s, want %s", i, err, time.Since(began), want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := l.take(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("took after the end: %v", err)
		}
		free := limiter{rate: -1}
		if err := free.take(t.Context(), 1<<40); err != nil {
			t.Error(err)
		}
	})
}
