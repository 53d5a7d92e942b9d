package chaos

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clock sets the machine's clock, and puts it right by the one that nobody sets.
type clock struct {
	mu   sync.Mutex
	real time.Duration // of the wall, when it was right
	boot time.Duration // since boot, at the same moment
	off  bool
}

func read(which int32) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(which, &ts); err != nil {
		return 0, fmt.Errorf("read a clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// mark takes it that the clock is right now.
func (c *clock) mark() (err error) {
	if c.real, err = read(unix.CLOCK_REALTIME); err == nil {
		c.boot, err = read(unix.CLOCK_BOOTTIME)
	}
	return err
}

// jump sets the clock wrong.
func (c *clock) jump(by time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.mark(); err != nil {
		return err
	}
	c.off = true
	return c.set(by)
}

// restore sets the clock to what it would be, had nobody touched it. It does nothing when nobody has.
func (c *clock) restore() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.off {
		return nil
	}
	c.off = false
	return c.set(0)
}

// guard puts a clock right that is wrong by more than a minute, such as after a jump whose process has been killed.
func (c *clock) guard() error {
	now := clock{}
	if err := now.mark(); err != nil {
		return err
	}
	if wrong := (now.real - c.real) - (now.boot - c.boot); wrong.Abs() < time.Minute {
		return nil
	}
	return c.set(0)
}

func (c *clock) set(off time.Duration) error {
	boot, err := read(unix.CLOCK_BOOTTIME)
	if err != nil {
		return err
	}
	ts := unix.NsecToTimespec(int64(c.real + boot - c.boot + off))
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}
