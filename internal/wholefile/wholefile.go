// Package wholefile replaces files as a whole: who reads one, also after a crash or without power, finds the text of before or
// the new one, never a part. The new text is first written beside the file, as PATH.new, in the same directory: of two processes
// that replace one file, one would take away what the other is writing, so a process that keeps state in a file holds it.
package wholefile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

const mode = 0o600 // of what is written: it may be secret

// Put replaces the file, or makes it. Nobody waits for the disk, so the new text may be lost if the power fails soon after.
func Put(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// PutDurably replaces the file, or makes it. When it returns nil the disk has the new text.
func PutDurably(path string, text []byte) error {
	return putDurably(path, text, func(*os.File) error { return nil })
}

// PutDurablyLike is PutDurably for a file that is there: the new one has its owner, group and mode, so that who could read it
// still can. Where path is a symbolic link, what it leads to is replaced.
func PutDurablyLike(path string, text []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return putDurably(path, text, func(f *os.File) error {
		if is, ok := info.Sys().(*syscall.Stat_t); ok {
			if err := f.Chown(int(is.Uid), int(is.Gid)); err != nil {
				return err
			}
		}
		return f.Chmod(info.Mode().Perm())
	})
}

func putDurably(path string, text []byte, prepare func(*os.File) error) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if err = prepare(f); err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync() // before the rename: else a crash may leave the new name with no text behind it
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir waits until the disk has the names of a directory.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
