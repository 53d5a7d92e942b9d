package lbbench

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime gives what all processors have worked since the machine started, in the kernel and out of it.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	text, err := os.ReadFile("/proc/stat")
	check(t, err)
	var user, nice, system, idle, iowait, irq, softirq int64
	line, _, _ := strings.Cut(string(text), "\n")
	_, err = fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq)
	check(t, err)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every machine that Linux runs on
	return time.Duration(user+nice+system+irq+softirq) * tick
}

// resetOnClose keeps closed connections from filling up the client's ports.
func resetOnClose(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}); e != nil {
		return e
	}
	return err
}
