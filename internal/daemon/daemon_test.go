package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

type status struct{ Name string }

// start runs a process in the background and waits until it answers.
func start(t *testing.T, p Process, tasks ...Task) (stop func() error) {
	t.Helper()
	p.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, p, tasks...) }()
	eventually(t, func() error {
		c, err := net.Dial("unix", SocketPath(p.RunDir, p.Role))
		if err == nil {
			c.Close()
		}
		return err
	})
	return func() error {
		cancel()
		return <-done
	}
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

func TestStatusIsServedUntilTheEnd(t *testing.T) {
	dir := t.TempDir()
	sick := errors.New("no reals")
	stop := start(t, Process{
		Role: "lb", RunDir: dir, Healthy: func() error { return sick },
		Status: map[string]func() any{"/v1/vip": func() any { return status{"smtp"} }},
	})
	var got status
	if err := Get(t.Context(), dir, "lb", "/v1/vip", &got); err != nil || got.Name != "smtp" {
		t.Errorf("status is %+v, %v", got, err)
	}
	if err := Get(t.Context(), dir, "lb", "/healthz", &got); err == nil || !strings.Contains(err.Error(), "no reals") {
		t.Errorf("health of a sick role: %v", err)
	}
	if err := Get(t.Context(), dir, "lb", "/v1/nothing", &got); err == nil || !strings.Contains(err.Error(), fmt.Sprint(http.StatusNotFound)) {
		t.Errorf("unknown path: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("clean end: %v", err)
	}
	if err := Get(t.Context(), dir, "lb", "/v1/vip", &got); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: %v, want ErrNotRunning", err)
	}
}

func TestSecondProcessOfARoleIsRefused(t *testing.T) {
	dir := t.TempDir()
	stop := start(t, Process{Role: "gss", RunDir: dir})
	err := Run(t.Context(), Process{Role: "gss", RunDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "another gss answers") {
		t.Errorf("second process: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestTwoStartsAtOnce starts many processes of a role at the same moment, where a dead one has left its socket. One runs.
func TestTwoStartsAtOnce(t *testing.T) {
	for range 50 {
		dir := t.TempDir()
		left, err := net.ListenUnix("unix", &net.UnixAddr{Name: SocketPath(dir, "lb"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		left.SetUnlinkOnClose(false)
		left.Close()
		var running, refused atomic.Int32
		var g sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		const many = 8
		for range many {
			g.Go(func() {
				err := Run(ctx, Process{Role: "lb", RunDir: dir, Log: slog.New(slog.DiscardHandler)}, func(ctx context.Context) error {
					running.Add(1)
					<-ctx.Done()
					return nil
				})
				if err != nil {
					refused.Add(1)
				}
			})
		}
		eventually(t, func() error {
			if running.Load()+refused.Load() < many {
				return errors.New("not all have started or given up")
			}
			return nil
		})
		if n := running.Load(); n != 1 {
			t.Errorf("%d processes run", n)
		}
		cancel()
		g.Wait()
	}
}

func TestSocketOfADeadProcessIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: SocketPath(dir, "lb"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	if _, err := os.Stat(SocketPath(dir, "lb")); err != nil {
		t.Fatalf("the stale socket is not there: %v", err)
	}
	stop := start(t, Process{Role: "lb", RunDir: dir})
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestFailingTaskEndsTheProcess(t *testing.T) {
	boom := errors.New("boom")
	err := Run(t.Context(), Process{Role: "lb", RunDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)},
		func(context.Context) error { return boom },
		func(ctx context.Context) error { <-ctx.Done(); return nil })
	if !errors.Is(err, boom) {
		t.Errorf("error is %v, want boom", err)
	}
}

// A part that another part stopped may join its own cancellation to the cause: that is a failure all the same.
func TestCancellationHidesNoFailure(t *testing.T) {
	boom := errors.New("boom")
	for _, err := range []error{errors.Join(context.Canceled, boom), context.Canceled} {
		p := Process{Role: "lb", RunDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
		if got := Run(t.Context(), p, func(context.Context) error { return err }); !errors.Is(got, err) {
			t.Errorf("a task failed with %v; the process with %v", err, got)
		}
	}
	stop := start(t, Process{Role: "lb", RunDir: t.TempDir()}, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	if err := stop(); err != nil {
		t.Errorf("told to stop: %v", err)
	}
}

// A process that has no time to answer is not dead: its socket is not taken away.
func TestSocketOfABusyProcessStays(t *testing.T) {
	dir := t.TempDir()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	err = errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: SocketPath(dir, "lb")}), syscall.Listen(fd, 0))
	for err == nil { // fill its backlog
		var c net.Conn
		if c, err = net.DialTimeout("unix", SocketPath(dir, "lb"), 100*time.Millisecond); err == nil {
			defer c.Close()
		}
	}
	if nobody(err) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // for one that is not refused, and runs
	defer cancel()
	if err := Run(ctx, Process{Role: "lb", RunDir: dir, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a second process took the socket of one that is busy")
	}
	if _, err := os.Stat(SocketPath(dir, "lb")); err != nil {
		t.Errorf("the busy process has lost its socket: %v", err)
	}
}

// lockedBuffer is written by a child's copier and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestSuperviseStartsADeadChildAgainAndStopsAll(t *testing.T) {
	marks := filepath.Join(t.TempDir(), "runs")
	var out lockedBuffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Supervise(ctx, slog.New(slog.DiscardHandler), []Child{
			{Name: "dies", Argv: []string{"sh", "-c", "echo run >>" + marks}, Output: &out},
			{Name: "stays", Argv: []string{"sh", "-c", "trap 'echo terminated; exit' TERM; echo up; while :; do sleep 0.01; done"}, Output: &out},
		})
	}()
	eventually(t, func() error {
		text, err := os.ReadFile(marks)
		if err == nil && strings.Count(string(text), "run") < 2 || !strings.Contains(out.String(), "up") {
			err = fmt.Errorf("runs so far: %q, output %q", text, out.String())
		}
		return err
	})
	cancel()
	<-done
	if !strings.Contains(out.String(), "terminated") {
		t.Errorf("the child that stayed was not sent SIGTERM; it printed %q", out.String())
	}
}

// What others live by is stopped when they have ended.
func TestSuperviseStopsInOrder(t *testing.T) {
	var out lockedBuffer
	child := func(name string, stop int, pause string) Child {
		script := fmt.Sprintf("trap 'sleep %s; echo %s ended; exit' TERM; echo %s up; while :; do sleep 0.01; done", pause, name, name)
		return Child{Name: name, Argv: []string{"sh", "-c", script}, Output: &out, Stop: stop}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Supervise(ctx, slog.New(slog.DiscardHandler), []Child{child("last", 2, "0"), child("first", 0, "0.3"), child("also-first", 0, "0.2"), child("second", 1, "0.1")})
	}()
	eventually(t, func() error {
		if strings.Count(out.String(), "up") < 4 {
			return fmt.Errorf("output so far: %q", out.String())
		}
		return nil
	})
	cancel()
	<-done
	text := out.String()
	if want := "also-first ended\nfirst ended\nsecond ended\nlast ended\n"; !strings.HasSuffix(text, want) {
		t.Errorf("printed %q, want at its end %q", text, want)
	}
}
