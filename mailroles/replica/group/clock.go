package group

import (
	"time"

	"golang.org/x/sys/unix"
)

// instant is a time of the clock that neither a setting of the time nor a sleep of the machine or the process stops.
type instant time.Duration

// bootTime reads that clock. Where the kernel has none there is the monotonic one, which stops in a suspended machine.
func bootTime() instant {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
			panic(err) // no kernel refuses it
		}
	}
	return instant(t.Nano())
}

func (i instant) add(d time.Duration) instant { return i + instant(d) }

func (i instant) since(then instant) time.Duration { return time.Duration(i - then) }
