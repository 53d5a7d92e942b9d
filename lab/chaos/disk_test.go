package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/internal/proctest"
)

// disk is a small ext4 file system in a file, behind a loop device that can be made to fail.
type disk struct {
	image, device, at string
}

// newDisk makes and mounts one. It goes away with the mount namespace of the tests, or with the test.
func newDisk(t testing.TB, image, at string, size int64) *disk {
	t.Helper()
	d := &disk{image: image, at: at}
	f, err := os.Create(image)
	proctest.Check(t, err)
	proctest.Check(t, errors.Join(f.Truncate(size), f.Close(), os.MkdirAll(at, 0o700)))
	_, err = tool("mkfs.ext4", "-q", "-F", "-m", "0", "-e", "remount-ro", "-i", "8192", "-J", "size=8", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
	proctest.Check(t, err)
	proctest.Check(t, d.mount())
	t.Cleanup(func() { _ = d.unmount() }) // it may be unmounted
	return d
}

// tool runs a program of the machine's to its end.
func tool(argv ...string) (said string, err error) {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// mount puts the image behind a loop device that frees itself when it is unmounted.
func (d *disk) mount() (err error) {
	if d.device, err = tool("losetup", "--show", "-f", d.image); err != nil {
		return err
	}
	_, err = tool("mount", "-t", "ext4", d.device, d.at)
	_, freed := tool("losetup", "-d", d.device)
	return errors.Join(err, freed)
}

// unmount waits until nobody uses it any more; what was in memory only is gone then.
func (d *disk) unmount() (err error) {
	for range 50 {
		if err = unix.Unmount(d.at, 0); !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// repair is what an operator does after the disk has failed: check it, and mount it again.
func (d *disk) repair() error {
	if err := errors.Join(d.fail(false), d.unmount()); err != nil {
		return err
	}
	var exit *exec.ExitError
	if _, err := tool("e2fsck", "-f", "-y", d.image); err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
		return err
	}
	return d.mount()
}

// fail makes all reads and writes beyond the first megabyte end with EIO, or work again: the loop device is made shorter.
func (d *disk) fail(failing bool) error {
	f, err := os.OpenFile(d.device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return fmt.Errorf("read the state of %s: %w", d.device, err)
	}
	info.Sizelimit = 0
	if failing {
		info.Sizelimit = 1 << 20
	}
	if err := unix.IoctlLoopSetStatus64(int(f.Fd()), info); err != nil {
		return fmt.Errorf("set the size of %s: %w", d.device, err)
	}
	return nil
}

func (d *disk) ballast() string { return filepath.Join(d.at, "ballast") }

// fill leaves no byte free.
func (d *disk) fill() error {
	f, err := os.Create(d.ballast())
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize*99/100); err != nil {
		return fmt.Errorf("take up the disk: %w", err)
	}
	if _, err := f.Seek(0, 2); err != nil {
		return err
	}
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// free undoes fill.
func (d *disk) free() error { return os.Remove(d.ballast()) }
