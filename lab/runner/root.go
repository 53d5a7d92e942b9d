package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"anycastle/lab/topology"
)

// hostDir is where a node sees the host's files, read-only.
const hostDir = "/.host"

// own are the top-level folders of which a node has its own, empty at first.
var own = map[string]os.FileMode{
	"dev": 0o755, "proc": 0o555, "sys": 0o555, "run": 0o755, "root": 0o700, "tmp": 0o777 | os.ModeSticky,
}

// buildRoot gives the calling process, the first of a new mount namespace, a root of its own: a tmpfs whose entries
// lead into a read-only view of the host's root, with private /proc, /sys, /dev/shm, /run, /tmp and binds on top. All
// of it lives in the mount namespace alone and vanishes with it.
func buildRoot(s *spec) error {
	if err := unix.Sethostname([]byte(s.Node.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	// slave, not private: nothing mounted here reaches the host, while a file system that the host unmounts is let go
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("part from the host's mounts: %w; a lab cannot be built where / is no mount of its own, as in a chroot", err)
	}
	// clones are taken while the host's paths still mean what they mean; they are put in place under the new root
	trees, err := cloneTrees(s)
	defer func() {
		for _, t := range trees {
			unix.Close(t.fd)
		}
	}()
	if err != nil {
		return err
	}
	if err := mount("tmpfs", s.Mount, unix.MS_NOSUID, "mode=0755"); err != nil {
		return err
	}
	if err := pivot(s.Mount); err != nil {
		return err
	}
	if err := trees[0].attach(); err != nil {
		return err
	}
	if err := furnish(s.Node.Name); err != nil {
		return err
	}
	if err := trees[1].attach(); err != nil {
		return err
	}
	if err := mountKernel(); err != nil {
		return err
	}
	if err := mountDisk(s.Node.Disk); err != nil {
		return err
	}
	for _, t := range trees[2:] { // last, so that a bind may lie in any of the above
		if err := t.attach(); err != nil {
			return err
		}
	}
	return nil
}

// tree is a detached copy of a mount, to be put at target.
type tree struct {
	fd     int
	target string
	dir    bool
}

// cloneTrees copies the host's root, its /dev, the binary and the node's binds, in this order.
func cloneTrees(s *spec) ([]tree, error) {
	binds := append([]topology.Bind{
		{Source: "/", Target: hostDir, ReadOnly: true},
		{Source: "/dev", Target: "/dev"},
		{Source: s.Binary, Target: "/usr/local/bin/anycastle", ReadOnly: true},
	}, withoutDisk(s.Node)...)
	var trees []tree
	for _, b := range binds {
		info, err := os.Stat(b.Source)
		if err != nil {
			return trees, fmt.Errorf("bind: %w", err)
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, b.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return trees, fmt.Errorf("bind %s: %w", b.Source, err)
		}
		trees = append(trees, tree{fd: fd, target: b.Target, dir: info.IsDir()})
		if !b.ReadOnly {
			continue
		}
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
			return trees, fmt.Errorf("bind %s read-only: %w", b.Source, err)
		}
	}
	return trees, nil
}

func (t tree) attach() error {
	if err := mountPoint(t.target, t.dir); err != nil {
		return fmt.Errorf("make room for %s: %w", t.target, err)
	}
	if err := unix.MoveMount(t.fd, "", unix.AT_FDCWD, t.target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount on %s: %w", t.target, err)
	}
	return nil
}

// pivot makes the mount on dir the root and lets the host's go. Stacking the old root on the new one and detaching it
// needs no folder for it (pivot_root(2), NOTES).
func pivot(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot to the node's root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let the host's root go: %w", err)
	}
	return os.Chdir("/")
}

// furnish fills the new root.
func furnish(name string) error {
	for dir, mode := range own {
		if err := makeDir("/"+dir, mode); err != nil {
			return err
		}
	}
	if err := link(hostDir, "/"); err != nil {
		return err
	}
	// the view of the host must not show its processes or its BPF pins
	for _, dir := range []string{"/proc", "/sys"} {
		if err := unix.Unmount(hostDir+dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("hide the host's %s: %w", dir, err)
		}
	}
	for _, dir := range []string{"/etc", "/var", "/var/lib", "/var/log"} { // where programs expect to make files
		if _, err := materialise(dir); err != nil {
			return err
		}
	}
	fresh := map[string]os.FileMode{"/var/tmp": 0o777 | os.ModeSticky, "/var/lib/anycastle": 0o755, "/etc/anycastle": 0o755}
	for dir, mode := range fresh {
		if err := os.RemoveAll(dir); err != nil { // a link into the host's, never the host's own
			return err
		}
		if err := makeDir(dir, mode); err != nil {
			return err
		}
	}
	files := map[string]string{
		"/etc/hostname": name + "\n",
		"/etc/hosts":    "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 " + name + "\n",
	}
	for path, text := range files {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// mountKernel mounts the kernel's views of the new namespaces, and the BPF file system that pins vanish with.
func mountKernel() error {
	if err := mount("proc", "/proc", kernelFlags, ""); err != nil {
		return err
	}
	if err := mount("sysfs", "/sys", kernelFlags, ""); err != nil {
		return err
	}
	if err := mountBPF(); err != nil {
		return err
	}
	if _, err := os.Stat("/dev/shm"); err == nil {
		return mount("tmpfs", "/dev/shm", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	}
	return nil
}

const (
	kernelFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	bpfDir      = "/sys/fs/bpf"
)

func mountBPF() error { return mount("bpf", bpfDir, kernelFlags, "mode=0700") }

func mount(fstype, target string, flags uintptr, data string) error {
	if err := unix.Mount(fstype, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", fstype, target, err)
	}
	return nil
}

// makeDir is mkdir with exactly that mode.
func makeDir(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// mountPoint makes an empty folder or file of the node's own at path, whatever the host has there.
func mountPoint(path string, dir bool) error {
	parent, err := materialise(filepath.Dir(path))
	if err != nil {
		return err
	}
	path = filepath.Join(parent, filepath.Base(path))
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&os.ModeSymlink == 0 && info.IsDir() == dir {
		return nil
	}
	if err == nil {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if dir {
		return os.Mkdir(path, 0o755)
	}
	return os.WriteFile(path, nil, 0o644)
}
