package wholefile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestPut(t *testing.T) {
	for name, put := range map[string]func(string, []byte) error{"put": Put, "put durably": PutDurably} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			for _, text := range []string{"first", "second, longer", "3"} {
				if err := put(path, []byte(text)); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || string(got) != text {
					t.Errorf("the file has %q, %v; want %q", got, err, text)
				}
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file is open to others: %v, %v", info.Mode(), err)
			}
			if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the new file is left: %v", err)
			}
			if err := os.Mkdir(path+".new", 0o700); err != nil { // where nothing can be written
				t.Fatal(err)
			}
			if err := put(path, []byte("fourth")); err == nil {
				t.Error("what cannot be written is written")
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != "3" {
				t.Errorf("after a failure the file has %q, %v", got, err)
			}
			if err := put(filepath.Join(path, "below"), nil); err == nil {
				t.Error("a file is made below a file")
			}
		})
	}
}

func TestPutDurablyLike(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := PutDurablyLike(path, []byte("x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file to be like: %v", err)
	}
	if err := os.WriteFile(path, []byte("first"), 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 0, 12345); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	if err := PutDurablyLike(link, []byte("second")); err != nil {
		t.Fatal(err)
	}
	after, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	is, was := after.Sys().(*syscall.Stat_t), before.Sys().(*syscall.Stat_t)
	if after.Mode() != before.Mode() || is.Uid != was.Uid || is.Gid != was.Gid || is.Ino == was.Ino {
		t.Errorf("%v of %d:%d became %v of %d:%d", before.Mode(), was.Uid, was.Gid, after.Mode(), is.Uid, is.Gid)
	}
	if to, err := os.Readlink(link); err != nil || to != "file" {
		t.Errorf("the link is gone: %q, %v", to, err)
	}
	if got, err := os.ReadFile(link); err != nil || string(got) != "second" {
		t.Errorf("the file has %q, %v", got, err)
	}
}
