package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ways to keep the bodies of a snapshot. A subvolume is the whole tree in one step; a clone shares the disk's blocks with the
// file, which may change without it; a second name shares all.
const (
	methodBtrfs    = "btrfs"
	methodReflink  = "reflink"
	methodHardlink = "hardlink"
)

// subvolumeName is the subvolume of a snapshot that is one.
const subvolumeName = "tree"

// method finds the best way that the file system has, by trying it.
func (s *Store) method() string {
	if s.trySubvolume() {
		return methodBtrfs
	}
	from, to := filepath.Join(snapshotDir, "try"+goneSuffix), filepath.Join(snapshotDir, "try2"+goneSuffix)
	err := s.files.write(from, []byte("x"))
	if err == nil {
		err = s.files.clone(from, to)
	}
	_, _ = s.files.remove(from), s.files.remove(to) // else the next start does
	if err != nil {
		return methodHardlink
	}
	return methodReflink
}

// trySubvolume tells whether the LUN's directory is a subvolume that this process can take snapshots of, and remove them.
func (s *Store) trySubvolume() bool {
	var st unix.Stat_t
	var vfs unix.Statfs_t
	if unix.Stat(s.root, &st) != nil || unix.Statfs(s.root, &vfs) != nil || vfs.Type != unix.BTRFS_SUPER_MAGIC || st.Ino != 256 {
		return false
	}
	try := filepath.Join(snapshotDir, "try"+goneSuffix)
	if err := s.files.subvolume("", try); err != nil {
		s.log.Debug("no snapshot of the subvolume", "err", err)
		return false
	}
	if err := s.files.removeSubvolume(try); err != nil {
		s.log.Warn("snapshots of the subvolume could not be removed: hard links or clones are used", "err", err)
		return false
	}
	return true
}

// clone gives a new file the text of another, by sharing its blocks.
func (d files) clone(from, to string) error {
	return d.duplicate("clone", from, to, func(out, in *os.File) error { return unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) })
}

// copy gives a new file the text of another.
func (d files) copy(from, to string) error {
	return d.duplicate("copy", from, to, func(out, in *os.File) error {
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
		return out.Sync()
	})
}

// duplicate makes a file like another, with its time. On an error there is none.
func (d files) duplicate(step, from, to string, fill func(out, in *os.File) error) error {
	if err := d.ask(step, to); err != nil {
		return err
	}
	in, err := os.Open(d.at(from))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(d.at(to), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = fill(out, in)
	if st, serr := in.Stat(); err == nil && serr == nil {
		err = os.Chtimes(out.Name(), st.ModTime(), st.ModTime())
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return nil
}

// The kernel's struct btrfs_ioctl_vol_args_v2 and btrfs_ioctl_vol_args, and the numbers of requests with them.
type (
	volumeArgs2 struct {
		fd      int64
		transid uint64
		flags   uint64
		_       [4]uint64
		name    [4040]byte
	}
	volumeArgs struct {
		fd   int64
		name [4088]byte
	}
)

const (
	btrfsSnapCreateV2 = 0x50009417
	btrfsSnapDestroy  = 0x5000940f
	btrfsReadOnly     = 1 << 1
)

// subvolume makes a read-only snapshot of a subvolume.
func (d files) subvolume(from, to string) error {
	if err := d.ask("subvolume", to); err != nil {
		return err
	}
	source, err := os.Open(d.at(from))
	if err != nil {
		return err
	}
	defer source.Close()
	args := volumeArgs2{fd: int64(source.Fd()), flags: btrfsReadOnly}
	copy(args.name[:len(args.name)-1], filepath.Base(to))
	return d.volume(filepath.Dir(to), btrfsSnapCreateV2, unsafe.Pointer(&args))
}

// removeSubvolume removes a snapshot of a subvolume.
func (d files) removeSubvolume(path string) error {
	if err := d.ask("remove", path); err != nil {
		return err
	}
	var args volumeArgs
	copy(args.name[:len(args.name)-1], filepath.Base(path))
	return d.volume(filepath.Dir(path), btrfsSnapDestroy, unsafe.Pointer(&args))
}

func (d files) volume(dir string, request uint, args unsafe.Pointer) error {
	f, err := os.Open(d.at(dir))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(args)); errno != 0 {
		return fmt.Errorf("change subvolume in %s: %w", dir, errno)
	}
	return nil
}

// removeTree removes what is left of a snapshot.
func (s *Store) removeTree(path string) error {
	for _, p := range []string{filepath.Join(path, subvolumeName), path} {
		var st unix.Stat_t
		var vfs unix.Statfs_t
		at := s.files.at(p)
		if unix.Lstat(at, &st) != nil || unix.Statfs(at, &vfs) != nil {
			continue
		}
		if vfs.Type == unix.BTRFS_SUPER_MAGIC && st.Ino == 256 {
			if err := s.files.removeSubvolume(p); err != nil {
				return err
			}
		}
	}
	return s.files.removeAll(path)
}

// isGone reports that a file was not where it was thought to be.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
