package bfd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// niceness of a process that speaks BFD. It needs little of a processor and that little at once: on a machine with more to do
// than it can, a process of the usual priority may wait longer than a peer does.
const niceness = -10

// prefer gives the process niceness, and its session too if it leads one: where the kernel groups processes by session
// (sched(7), autogroup), the niceness of a process counts only within its session.
func prefer() error {
	if err := preferThreads(); err != nil {
		return err
	}
	if sid, err := unix.Getsid(0); err != nil || sid != os.Getpid() {
		return nil // it is not for this process to say what the others of the session are worth
	}
	err := os.WriteFile("/proc/self/autogroup", strconv.AppendInt(nil, niceness, 10), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // there is none where nothing is grouped
		return fmt.Errorf("raise priority of the session: %w; CAP_SYS_NICE allows it", err)
	}
	return nil
}

// preferThreads gives the whole process that niceness, unless it has a better one: sender and receiver cannot be had alone, as
// goroutines go from thread to thread. A thread hands its own on to those that it makes, and the Go runtime makes them when
// it likes, so this goes on until there is none without.
func preferThreads() error {
	for range 10 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list threads: %w", err)
		}
		all := true
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			done, err := preferThread(id)
			if err != nil {
				return err
			}
			all = all && done
		}
		if all {
			return nil
		}
	}
	return nil
}

// preferThread says whether a thread had the niceness already.
func preferThread(id int) (done bool, err error) {
	// the system call gives 20 less the niceness, so as not to be negative
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, id)
	switch {
	case errors.Is(err, syscall.ESRCH):
		return true, nil // it has ended
	case err != nil:
		return false, fmt.Errorf("read priority: %w", err)
	case 20-raw <= niceness:
		return true, nil
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, id, niceness); err != nil && !errors.Is(err, syscall.ESRCH) {
		return false, fmt.Errorf("raise priority: %w; CAP_SYS_NICE allows it", err)
	}
	return false, nil
}
