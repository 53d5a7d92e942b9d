package bpf

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// MountFS mounts a bpf file system on path (/sys/fs/bpf) unless one is there. A container has none of its own, and an
// image that holds one binary has nothing to mount one with.
func MountFS(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("look for a bpf file system on %s: %w", path, err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("bpf", path, "bpf", flags, "mode=0700"); err != nil {
		return fmt.Errorf("mount a bpf file system on %s (run as root): %w", path, err)
	}
	return nil
}
