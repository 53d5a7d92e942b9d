package wholefile

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ErrHeld says that another process holds a file.
var ErrHeld = errors.New("another process has it")

// Hold takes a file for this process, which there need not be yet, before it is read or replaced. It is held until it is closed, or
// the process ends, however that may be. The error is ErrHeld when it is held already. What carries the lock is PATH.lock, which
// stays: the file itself is replaced.
func Hold(path string) (io.Closer, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, mode)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrHeld
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), lock.Close())
	}
	return lock, nil
}
