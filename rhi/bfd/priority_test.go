package bfd

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
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

// A process that leads a session gets the session preferred before others.
func TestPreferSession(t *testing.T) {
	netnstest.Root(t)
	const file, child = "/proc/self/autogroup", "ANYCASTLE_TEST_PREFER"
	if os.Getenv(child) != "" {
		if err := prefer(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := "nice " + strconv.Itoa(niceness); !strings.Contains(string(text), want) {
			t.Errorf("the session has %q, want %q", text, want)
		}
		return
	}
	if _, err := os.Stat(file); err != nil {
		t.Skip("this kernel does not group processes by session")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPreferSession$", "-test.count=1")
	cmd.Env = append(os.Environ(), child+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
