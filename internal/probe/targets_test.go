package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// running is a Runner in a bubble, with what it reported since the last look.
type running struct {
	*Runner
	t *testing.T
	j *journal
}

func startRunner(t *testing.T, f Func, targets ...Target) *running {
	t.Helper()
	r := &running{t: t, j: &journal{start: time.Now()}}
	r.Runner = NewRunner(f, r.j.report)
	r.group = 1 // each has a place of its own
	r.set(targets...)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func (r *running) set(targets ...Target) {
	r.t.Helper()
	if err := r.SetTargets(targets); err != nil {
		r.t.Fatal(err)
	}
}

// after lets the bubble's clock run and expects what was reported meanwhile.
func (r *running) after(d time.Duration, want ...string) {
	r.t.Helper()
	<-time.After(d)
	synctest.Wait()
	if diff := cmp.Diff(want, r.j.take()); diff != "" {
		r.t.Errorf("results until %v (-want +got):\n%s", time.Since(r.j.start), diff)
	}
}

func passes(context.Context, Target, *Advice) error { return nil }

func TestTargetsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := target("a", 1, time.Second, time.Second), target("b", 2, time.Second, time.Second)
		r := startRunner(t, passes)
		r.after(time.Hour)
		r.set(a)
		r.after(1500*time.Millisecond, "1h0m0s a passing changed", "1h0m1s a passing")
		r.set(a, b) // b is probed at once, a keeps its place
		r.after(time.Second, "1h0m1.5s b passing changed", "1h0m2s a passing", "1h0m2.5s b passing")
		r.set(b)
		r.after(time.Second, "1h0m3.5s b passing")
		moved := b
		moved.Addr = a.Addr
		r.set(moved) // another address is another target
		r.after(500*time.Millisecond, "1h0m3.5s b passing changed")
		r.set()
		r.after(time.Hour)
	})
}

func TestReloadKeepsStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Bool
		a := target("a", 1, time.Second, time.Second)
		r := startRunner(t, func(_ context.Context, _ Target, said *Advice) error {
			if fail.Load() {
				return errRefused
			}
			said.Weight = 50
			return nil
		}, a)
		r.after(500*time.Millisecond, "0s a passing changed")
		fail.Store(true)

		alike := *a.Config
		a.Config = &alike
		r.set(a) // an equal config changes nothing, a place neither
		r.after(time.Second, "1s a passing: refused")
		if r.j.last.Target != a || r.j.last.Weight != 50 {
			t.Errorf("the result is of %+v, weight %d; want the target as it was set last, and 50", r.j.last.Target, r.j.last.Weight)
		}

		other := *a.Config
		other.Fail, a.Config, a.Mark = 3, &other, 7
		r.set(a) // failures are counted anew, from the state as it was
		r.after(2500*time.Millisecond, "1.5s a passing: refused", "2.5s a passing: refused", "3.5s a failing changed: refused")
		if r.j.last.Weight != 50 {
			t.Errorf("weight is %d after a reload, want 50 still", r.j.last.Weight)
		}
	})
}

func TestNoResultOfATargetThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended time.Duration
		r := startRunner(t, func(ctx context.Context, _ Target, _ *Advice) error {
			began := time.Now()
			<-ctx.Done()
			ended = time.Since(began)
			return ctx.Err()
		}, target("a", 1, time.Second, time.Second))
		r.after(300 * time.Millisecond)
		r.set()
		r.after(time.Minute)
		if ended != 300*time.Millisecond {
			t.Errorf("the probe that ran went on for %v, want it ended with its target, after 300ms", ended)
		}
		if r.inFlight != 0 || len(r.queue) != 0 {
			t.Errorf("%d probes run and %d are queued without a target", r.inFlight, len(r.queue))
		}
	})
}

func TestReportMaySetTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := target("b", 2, time.Second, time.Second)
		var got []string
		var r *Runner
		r = NewRunner(passes, func(res Result) {
			got = append(got, res.Target.Name)
			if err := r.SetTargets([]Target{b}); err != nil {
				t.Error(err)
			}
		})
		if err := r.SetTargets([]Target{target("a", 1, time.Second, time.Second)}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		err := r.Run(ctx)
		if want := []string{"a", "b", "b"}; !slices.Equal(got, want) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("reports are of %q, want %q; end %v", got, want, err)
		}
	})
}

func TestBadTargetsChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := target("a", 1, time.Second, time.Second)
		r := startRunner(t, nil)
		if err := r.SetTargets([]Target{a, target("b", 2, time.Second, time.Second), a}); err == nil || err.Error() != `probe: two targets are called "a"` {
			t.Errorf("a name that stands twice gives %v", err)
		}
		odd := a
		odd.Config = &Config{Type: "tpc"}
		if err := r.SetTargets([]Target{odd}); err == nil || err.Error() != `tpc probe of 192.0.2.1:25: no probe is of type "tpc"` {
			t.Errorf("a config that cannot be probed gives %v", err)
		}
		r.after(time.Minute)
	})
}

func TestSlowIntervalWhileSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := target("a", 1, time.Second, time.Second), target("b", 2, time.Second, time.Second)
		slow := *a.Config
		slow.SlowInterval = 10 * time.Second
		a.Config, b.Config = &slow, &slow
		var fail atomic.Bool
		r := startRunner(t, func(context.Context, Target, *Advice) error {
			if fail.Load() {
				return errRefused
			}
			return nil
		}, a, b)
		<-time.After(19*time.Second + 600*time.Millisecond)
		synctest.Wait()
		if got := r.j.take(); len(got) != 2*steady {
			t.Fatalf("%d results until both are steady, want %d:\n%s", len(got), 2*steady, strings.Join(got, "\n"))
		}
		// b leaves by half of the difference, so that they do not come together
		r.after(11*time.Second, "20s a passing", "25s b passing", "30s a passing")
		fail.Store(true)
		r.after(4500*time.Millisecond, "35s b passing: refused")
		r.after(2800*time.Millisecond, "36s b failing changed: refused", "37s b failing: refused")
	})
}

// What this machine lacks is shown and takes nothing out.
// TestProbeNow casts doubt on targets that fail from then on, on one that passes, and on one whose probe runs.
func TestProbeNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuses, slow atomic.Bool
		a, b := target("a", 1, 10*time.Second, time.Second), target("b", 2, 10*time.Second, time.Second)
		r := startRunner(t, func(_ context.Context, t Target, _ *Advice) error {
			if slow.Load() {
				<-time.After(500 * time.Millisecond)
			}
			if refuses.Load() && t.Name == "a" {
				return errRefused
			}
			return nil
		}, a, b)
		r.after(3*time.Second, "0s a passing changed", "500ms b passing changed")
		r.ProbeNow([]string{"b", "nobody"})
		r.after(2*time.Second, "3s b passing")
		refuses.Store(true)
		r.ProbeNow([]string{"a", "b"}) // b has just shown that it is well
		r.ProbeNow([]string{"a"})
		r.after(4*time.Second, "5s a passing: refused", "6s a failing changed: refused")
		refuses.Store(false)
		r.after(16*time.Second, "10s a failing", "11s b passing", "20s a passing changed", "21.5s b passing") // as if nothing had been
		refuses.Store(true)
		slow.Store(true)
		r.after(5200 * time.Millisecond)
		r.ProbeNow([]string{"a"}) // while its probe runs
		r.after(2*time.Second, "30s a passing: refused", "31.5s a failing changed: refused")
	})
}

func TestOwnWantIsNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lack atomic.Bool
		r := startRunner(t, func(context.Context, Target, *Advice) error {
			if lack.Load() {
				return fmt.Errorf("open a socket: %w", syscall.EMFILE)
			}
			return nil
		}, target("a", 1, time.Second, time.Second))
		r.after(500*time.Millisecond, "0s a passing changed")
		lack.Store(true)
		r.after(3*time.Second, "1s a passing: open a socket: too many open files", "2s a passing: open a socket: too many open files",
			"3s a passing: open a socket: too many open files")
		if !r.j.last.Ours {
			t.Error("it is not said to be an error of this machine")
		}
	})
}

func TestReasonsAreShortAndPrintable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRunner(t, func(context.Context, Target, *Advice) error {
			return fmt.Errorf("banner %s: %w", "\x1b[31m\xff\u202e\n"+strings.Repeat("z", 300), errRefused)
		}, target("a", 1, time.Second, time.Second))
		r.after(0, "0s a failing changed: "+`banner \x1b[31m\xff\u{202e}\x0a`+strings.Repeat("z", 200-3-31)+"...")
		if !errors.Is(r.j.last.Err, errRefused) {
			t.Error("the cause is lost")
		}
	})
}

func TestNoMoreProbesThanTheLimitRunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		count := func(d int) {
			mu.Lock()
			defer mu.Unlock()
			now += d
			most = max(most, now)
		}
		var targets []Target
		cfg := &Config{Type: "tcp", Interval: time.Second, Timeout: time.Second, Fail: 1, Pass: 1}
		const limit = 64
		for i := range limit + limit/2 {
			targets = append(targets, Target{Name: fmt.Sprint(i), Addr: target("", 1, 0, 0).Addr, Config: cfg})
		}
		probed := map[string]bool{}
		r := NewRunner(func(ctx context.Context, t Target, _ *Advice) error {
			count(1)
			defer count(-1)
			<-ctx.Done()
			return ctx.Err()
		}, func(res Result) {
			mu.Lock()
			defer mu.Unlock()
			probed[res.Target.Name] = true
		})
		r.limit = limit
		if err := r.SetTargets(targets); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2200*time.Millisecond)
		defer cancel()
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		<-done
		if most != limit || len(probed) != len(targets) {
			t.Errorf("%d probes ran at once and %d of %d targets were probed; want %d and all", most, len(probed), len(targets), limit)
		}
	})
}

// A Runner that ends amid probes that hang leaves no goroutine, socket or process.
func TestRunnerLeavesNothing(t *testing.T) {
	before, files := runtime.NumGoroutine(), openFiles(t)
	t.Run("runs", func(t *testing.T) {
		hung := make(chan struct{}, 1000)
		addr := serve(t, func(c net.Conn) {
			hung <- struct{}{}
			io.Copy(io.Discard, c)
		})
		var targets []Target
		for i, kind := range []string{"tls", "http", "https", "smtp", "lmtp", "imap", "agent-check", "dns", "icmp", "exec"} {
			cfg := &Config{Type: kind, Interval: time.Hour, Timeout: time.Hour, Fail: 1, Pass: 1, Insecure: true, Query: "example.org",
				Command: []string{"/bin/sleep", "1000"}}
			targets = append(targets, Target{Name: fmt.Sprint(i), Addr: addr, Config: cfg})
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := NewRunner(nil, func(res Result) {
			// nothing takes datagrams there, and an echo may be answered
			if kind := res.Target.Config.Type; kind != "dns" && kind != "icmp" {
				t.Errorf("a probe that hangs has the result %v", res.Err)
			}
		})
		if err := r.SetTargets(targets); err != nil {
			t.Fatal(err)
		}
		for _, e := range r.entries {
			e.due = 0
		}
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		for range 7 {
			<-hung
		}
		if err := r.SetTargets(targets[4:]); err != nil { // some go while their probes run
			t.Error(err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	eventually(t, func() error {
		if n, f := runtime.NumGoroutine(), openFiles(t); n > before || f > files {
			return fmt.Errorf("%d goroutines and %d open files are left, of %d and %d before", n, f, before, files)
		}
		return nil
	})
}
