package bfd

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// Every thread is preferred, those too that come later.
func TestPrefer(t *testing.T) {
	netnstest.Root(t)
	if err := prefer(); err != nil {
		t.Fatal(err)
	}
	var wg, held sync.WaitGroup
	release := make(chan struct{})
	for range 20 { // each keeps a thread, so that there must be more
		held.Add(1)
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			held.Done()
			<-release
		})
	}
	held.Wait()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range threads {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := unix.Getpriority(unix.PRIO_PROCESS, id); err == nil && 20-raw > niceness {
			t.Errorf("thread %d has niceness %d, want %d", id, 20-raw, niceness)
		}
	}
	close(release)
	wg.Wait()
	if len(threads) < 20 {
		t.Errorf("only %d threads: nothing was put to the test", len(threads))
	}
}
