package bfd

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// alarm goes off once, at a moment that may be changed at any time. It is the kernel's timer and not Go's: Go waits for its
// own by whole milliseconds, so it mostly wakes up once in vain before each, and has its monitor wake up as well, also for a
// moment that was put off meanwhile. With sessions at 100 ms that is most of what BFD costs.
type alarm struct {
	fd   int
	file *os.File
	conn syscall.RawConn
	spec unix.ItimerSpec // room for what the kernel is told
}

// newAlarm gives an alarm that is not set. Who has it closes its file.
func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	a := &alarm{fd: fd, file: os.NewFile(uintptr(fd), "bfd alarm")}
	if a.conn, err = a.file.SyscallConn(); err != nil {
		a.file.Close()
		return nil, fmt.Errorf("poll a timer: %w", err)
	}
	return a, nil
}

// set has the alarm go off then, and at no other moment. That of a speaker that does not run is nil, and is not set. The call
// is only wrong about a descriptor or a time that is none.
func (a *alarm) set(at time.Time) {
	if a == nil {
		return
	}
	a.spec.Value = unix.NsecToTimespec(int64(max(time.Until(at), 1))) // 0 would stop it
	unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(a.fd), 0, uintptr(unsafe.Pointer(&a.spec)), 0, 0, 0)
	runtime.KeepAlive(a)
}

// each calls ring whenever the alarm goes off, until the context ends.
func (a *alarm) each(ctx context.Context, ring func()) {
	_ = a.file.SetReadDeadline(time.Time{}) // its only error is that the file was closed
	stop := context.AfterFunc(ctx, func() { _ = a.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = a.conn.Read(func(fd uintptr) bool { // its only errors are the deadline, and that the file was closed
		var times [8]byte
		n, _, _ := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&times[0])), uintptr(len(times)))
		if int(n) == len(times) { // else it was set anew since it went off
			ring()
		}
		return false // until it goes off again
	})
}
