// Package wholefile replaces files as a whole: who reads one, also after a crash or without power, finds the text of before or
// the new one, never a part. The new text is first written beside the file, as PATH.new, in the same directory.
package wholefile

import (
	"errors"
	"os"
	"path/filepath"
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
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
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
