package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Child is one process to keep running.
type Child struct {
	Name   string
	Argv   []string
	Output io.Writer // standard output and error
	// Stop is its place when all are stopped: those of a number are told to when those of the smaller ones have ended.
	Stop int
}

// The delays of a supervisor.
const (
	restartFirst = time.Second      // before the first restart; doubles with each that follows
	restartMost  = 30 * time.Second // and ends here
	steady       = time.Minute      // a child that ran this long is restarted after restartFirst again
	stopTime     = 15 * time.Second // from SIGTERM to SIGKILL
)

// Supervise starts every child, restarts one that ends, and when ctx is done sends SIGTERM to all, in their order, and waits
// for them; one that is still there stopTime later is killed. One child's death never touches another. Should this process die
// without a chance to stop them, the kernel sends them SIGTERM: the next one finds no old process on its sockets.
func Supervise(ctx context.Context, log *slog.Logger, children []Child) {
	groups := map[int][]Child{}
	for _, c := range children {
		groups[c.Stop] = append(groups[c.Stop], c)
	}
	var all sync.WaitGroup
	told := ctx // ends when the group is to
	for _, order := range slices.Sorted(maps.Keys(groups)) {
		now := told
		next, ended := context.WithCancel(context.WithoutCancel(ctx))
		var group sync.WaitGroup
		for _, c := range groups[order] {
			group.Go(func() { keepRunning(now, log.With("child", c.Name), c) })
		}
		all.Go(func() {
			group.Wait()
			ended()
		})
		told = next
	}
	all.Wait()
}

func keepRunning(ctx context.Context, log *slog.Logger, c Child) {
	runtime.LockOSThread() // the kernel counts the thread that started a child as its parent
	defer runtime.UnlockOSThread()
	delay := restartFirst
	for {
		start := time.Now()
		err := runOnce(ctx, c)
		if ctx.Err() != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
				log.Warn("child did not stop when told to; killed", "after", stopTime)
			}
			return
		}
		if time.Since(start) >= steady {
			delay = restartFirst
		}
		log.Warn("child ended; starting it again", "err", err, "in", delay)
		t := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		delay = min(2*delay, restartMost)
	}
}

func runOnce(ctx context.Context, c Child) error {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Stdout, cmd.Stderr = c.Output, c.Output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	// a session of its own: Linux shares processors out among sessions first (sched(7), autogroup), so that one child neither
	// lives off the share of another nor can have a priority before other sessions without one of its own
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setsid: true}
	return cmd.Run()
}
