package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var errRefused = errors.New("refused")

// journal is what a Run reported, one line a result.
type journal struct {
	mu    sync.Mutex
	start time.Time
	lines []string
	last  Result
}

func (j *journal) report(r Result) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last = r
	line := fmt.Sprintf("%v %s %v", r.At.Sub(j.start), r.Target.Name, r.State)
	if r.Changed {
		line += " changed"
	}
	if r.Err != nil {
		line += ": " + r.Err.Error()
	}
	j.lines = append(j.lines, line)
}

// take gives the lines since the last look.
func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.lines
	j.lines = nil
	return lines
}

func target(name string, last byte, interval, timeout time.Duration) Target {
	return Target{
		Name: name, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, last}), 25),
		Config: &Config{Type: "tcp", Interval: interval, Timeout: timeout, Fail: 2, Pass: 2},
	}
}

// runFor runs the targets for a while of the bubble's time and gives what was reported.
func runFor(t *testing.T, d time.Duration, targets []Target, f Func) []string {
	t.Helper()
	j := &journal{start: time.Now()}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	r := NewRunner(f, j.report)
	r.group = 1 // each has a place of its own
	if err := r.SetTargets(targets); err != nil {
		t.Fatal(err)
	}
	if err := r.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run ended with %v, want its context's error", err)
	}
	if took := time.Since(j.start); took != d {
		t.Errorf("Run took %v, want %v", took, d)
	}
	return j.lines
}

func TestRunSpreadsTargetsAndKeepsPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		targets := []Target{
			target("a", 1, time.Second, time.Second), target("b", 2, time.Second, time.Second),
			target("c", 3, time.Second, time.Second), target("d", 4, 2*time.Second, time.Second),
		}
		got := runFor(t, 2500*time.Millisecond, targets, func(ctx context.Context, t Target, _ *Advice) error {
			if t == targets[1] {
				<-time.After(300 * time.Millisecond) // a slow answer must not shift the probes after it
			}
			return nil
		})
		want := []string{
			"0s a passing changed", "50ms c passing changed", "150ms d passing changed", "25ms b passing changed",
			"1s a passing", "1.1s c passing", "1.05s b passing",
			"2s a passing", "2.15s c passing", "2.3s d passing", "2.075s b passing",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
	})
}

func TestRunCountsAndGivesReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		got := runFor(t, 5500*time.Millisecond, []Target{target("a", 1, time.Second, time.Second)}, func(context.Context, Target, *Advice) error {
			if at := time.Since(start); at >= time.Second && at < 4*time.Second {
				return errRefused
			}
			return nil
		})
		want := []string{
			"0s a passing changed", "1s a passing: refused", "2s a failing changed: refused", "3s a failing: refused",
			"4s a failing", "5s a passing changed",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
	})
}

// A service that fails every second time is never down for two in a row; the window finds it.
func TestRunTripsOverAnAlternatingService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, n := target("a", 1, time.Second, time.Second), 0
		windowed := *a.Config
		windowed.Window = Window{Size: 6, Fail: 3}
		a.Config = &windowed
		got := runFor(t, 7500*time.Millisecond, []Target{a}, func(context.Context, Target, *Advice) error {
			if n++; n%2 == 0 {
				return errRefused
			}
			return nil
		})
		want := []string{
			"0s a passing changed", "1s a passing: refused", "2s a passing", "3s a passing: refused", "4s a passing",
			"5s a failing changed: refused", "6s a failing", "7s a failing: refused",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
	})
}

func TestRunEndsAProbeAtItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took []time.Duration
		got := runFor(t, 1900*time.Millisecond, []Target{target("a", 1, time.Second, 400*time.Millisecond)}, func(ctx context.Context, _ Target, _ *Advice) error {
			began := time.Now()
			<-ctx.Done()
			took = append(took, time.Since(began))
			return ctx.Err()
		})
		want := []string{"0s a failing changed: context deadline exceeded", "1s a failing: context deadline exceeded"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]time.Duration{400 * time.Millisecond, 400 * time.Millisecond}, took); diff != "" {
			t.Errorf("times that the probes were given (-want +got):\n%s", diff)
		}
	})
}

// A probe that was cut short by our own end says nothing about its target.
func TestRunReportsNothingAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := runFor(t, 1200*time.Millisecond, []Target{target("a", 1, time.Second, 400*time.Millisecond)}, func(ctx context.Context, _ Target, _ *Advice) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if want := []string{"0s a failing changed: context deadline exceeded"}; !cmp.Equal(want, got) {
			t.Errorf("results are %q, want %q", got, want)
		}
	})
}

func TestRunWithoutTargetsWaitsForItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got := runFor(t, time.Minute, nil, nil); len(got) != 0 {
			t.Errorf("results are %q, want none", got)
		}
	})
}

// Run with TCP as it is used: a listener that closes is noticed.
func TestRunWithTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	tg := Target{Name: "a", Addr: ln.Addr().(*net.TCPAddr).AddrPort(), Config: &Config{}}
	tg.Config.SetDefaults()
	// an answer may be late on a busy machine, a refusal is not awaited: so a long timeout makes nothing slow
	tg.Config.Interval, tg.Config.Timeout = 10*time.Millisecond, 10*time.Second
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var states []string
	err = Run(ctx, []Target{tg}, nil, func(r Result) {
		if !r.Changed {
			return
		}
		states = append(states, r.State.String())
		if r.State == Passing {
			ln.Close()
		} else {
			cancel()
		}
	})
	if got := strings.Join(states, " "); got != "passing failing" || !errors.Is(err, context.Canceled) {
		t.Errorf("states are %q, end %v", got, err)
	}
}

// What was known before is overthrown by as many results as any other state.
func TestAssumedStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		targets := []Target{
			target("a", 1, time.Second, time.Second), target("b", 2, time.Second, time.Second), target("c", 3, time.Second, time.Second),
		}
		j := &journal{start: time.Now()}
		r := NewRunner(func(_ context.Context, t Target, _ *Advice) error {
			if t.Name == "b" {
				return nil
			}
			return errRefused
		}, j.report)
		if err := r.SetTargets(targets); err != nil {
			t.Fatal(err)
		}
		r.Assume(map[string]State{"a": Passing, "b": Failing, "z": Passing})
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if err := r.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		got := strings.Join(j.lines, "; ")
		for _, want := range []string{"0s a passing: refused", "a failing changed: refused", "b failing;", "b passing changed", "c failing changed: refused"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %s", got, want)
			}
		}
	})
}
