package bpf

import (
	"errors"
	"io/fs"
	"testing"

	"anycastle/internal/netnstest"

	"golang.org/x/sys/unix"
)

func TestMountFSMountsOnce(t *testing.T) {
	netnstest.Root(t)
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("one mount to undo: %v", err)
		}
		if err := unix.Unmount(dir, 0); err == nil {
			t.Error("the second call mounted another one on top")
		}
	})
	for range 2 {
		if err := MountFS(dir); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.BPF_FS_MAGIC {
		t.Errorf("file system type %#x, %v", st.Type, err)
	}
	if err := MountFS(dir + "/nowhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}
