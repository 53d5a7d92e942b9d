package gss

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// calmly does work that takes a while, such as reading a large zone, on a thread that gives way to those that answer queries, and
// waits for it. Where a thread may not go back to its priority (RLIMIT_NICE; systemd's LimitNICE=+0 allows it) it is like any other.
func calmly(work func()) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NICE, &limit); err != nil || limit.Cur < 20 && unix.Geteuid() != 0 {
		work()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		was, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid()) // the system call gives 20 less the priority
		if err == nil {
			err = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
		}
		work()
		if err != nil || unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 20-was) == nil {
			runtime.UnlockOSThread()
		}
	}()
	<-done
}
