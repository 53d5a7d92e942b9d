package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/internal/phase"
)

const (
	diskTick = time.Second
	diskSlow = 10 * time.Second // a disk that answers no sooner is none
	leastMax = 64 << 20         // octets that must be free, on a large disk
	leastPct = 3                // and in hundredths of a small one
)

// probeFile is written to see whether the disk takes anything.
const probeFile = ".probe"

// watchDisk writes a little to the disk again and again: a store that nobody writes to would find out too late that it
// cannot be written.
func (r *Replica) watchDisk(ctx context.Context) error {
	tick := phase.NewTicker(r.opt.Node.Made(), diskTick)
	defer tick.Stop()
	var answer chan error // of a probe that is under way
	var asked time.Time
	for {
		if answer == nil {
			answer, asked = make(chan error, 1), time.Now()
			go func(answer chan<- error) { answer <- r.probeDisk() }(answer) // may hang for as long as the disk does
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-answer:
			answer = nil
			why := ""
			if err != nil {
				why = err.Error()
			}
			r.setUnfit(badDisk, why)
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				tick.Next()
			}
		case <-tick.C:
			tick.Next()
			if slow := time.Since(asked); slow > diskSlow {
				r.setUnfit(badDisk, "the disk does not answer")
			}
		}
	}
}

// probeDisk looks whether the disk has room, and writes to it.
func (r *Replica) probeDisk() error {
	free, total, err := r.room()
	if err != nil {
		return err
	}
	r.lastFree.Store(free)
	if least := min(leastMax, total/100*leastPct); free < least {
		return fmt.Errorf("%d bytes are free, at least %d must be", free, least)
	}
	return writeProbe(filepath.Join(r.opt.Dir, probeFile))
}

func writeProbe(path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(make([]byte, 512)); err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	return nil
}

func (r *Replica) room() (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(r.opt.Dir, &st); err != nil {
		return 0, 0, fmt.Errorf("ask for room on the disk: %w", err)
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

// free gives what the last probe saw, where there are probes.
func (r *Replica) free() uint64 {
	if free := r.lastFree.Load(); free > 0 {
		return free
	}
	free, _, err := r.room()
	if err != nil {
		return 0
	}
	return free
}
