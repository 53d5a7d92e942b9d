package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"anycastle/internal/wholefile"
	"anycastle/mailroles/maildir"
)

// Directories of a LUN beside its mailboxes.
const (
	incomingDir   = ".incoming"   // bodies whose operation is not done yet
	trashDir      = ".trash"      // deleted folders, until they are removed
	quarantineDir = ".quarantine" // what the store found and does not know
	logDir        = ".oplog"
)

// files changes the LUN's tree. Paths are below its root. lock is a file there that stays open. fault, of tests, is asked
// before each change and may fail it.
type files struct {
	root  string
	lock  *os.File
	fault func(step, path string) error
}

func (d files) at(path string) string { return filepath.Join(d.root, path) }

func (d files) ask(step, path string) error {
	if d.fault == nil {
		return nil
	}
	return d.fault(step, path)
}

func (d files) rename(from, to string) error {
	if err := d.ask("rename", to); err != nil {
		return err
	}
	return os.Rename(d.at(from), d.at(to))
}

func (d files) link(from, to string) error {
	if err := d.ask("link", to); err != nil {
		return err
	}
	return os.Link(d.at(from), d.at(to))
}

// remove removes a file; one that is not there is no error.
func (d files) remove(path string) error {
	if err := d.ask("remove", path); err != nil {
		return err
	}
	if err := os.Remove(d.at(path)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (d files) removeAll(path string) error {
	if err := d.ask("remove", path); err != nil {
		return err
	}
	return os.RemoveAll(d.at(path))
}

// mkdir makes a directory unless it is there.
func (d files) mkdir(path string) error {
	if err := d.ask("mkdir", path); err != nil {
		return err
	}
	if err := os.Mkdir(d.at(path), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// create makes a file that is not there.
func (d files) create(path string) (*os.File, error) {
	if err := d.ask("create", path); err != nil {
		return nil, err
	}
	return os.OpenFile(d.at(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// renew makes a file, in place of one that another process may have left.
func (d files) renew(path string) (*os.File, error) {
	if err := d.ask("create", path); err != nil {
		return nil, err
	}
	return os.OpenFile(d.at(path), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
}

// write writes a file, without waiting for the disk.
func (d files) write(path string, text []byte) error {
	if err := d.ask("write", path); err != nil {
		return err
	}
	return os.WriteFile(d.at(path), text, 0o600)
}

// put replaces a file durably.
func (d files) put(path string, text []byte) error {
	if err := d.ask("put", path); err != nil {
		return err
	}
	return wholefile.PutDurably(d.at(path), text)
}

func (d files) sync(f *os.File) error {
	if err := d.ask("sync", f.Name()); err != nil {
		return err
	}
	return f.Sync()
}

func (d files) syncDir(path string) error {
	if err := d.ask("syncdir", path); err != nil {
		return err
	}
	return wholefile.SyncDir(d.at(path))
}

// syncAll makes everything on the LUN's file system durable. The kernel tells a descriptor of each write that failed since
// it was opened. To one that is opened now it would not tell what another program's sync has been told before.
func (d files) syncAll() error {
	if err := d.ask("syncfs", ""); err != nil {
		return err
	}
	if err := unix.Syncfs(int(d.lock.Fd())); err != nil {
		return fmt.Errorf("sync file system: %w", err)
	}
	return nil
}

// makeFolder makes what is missing of a folder. It counts as one once cur is there, which comes last.
func (d files) makeFolder(dir string, c *contents) error {
	list := maildir.UIDList{Validity: c.validity, Next: c.next, GUID: c.guid}
	for _, m := range c.messages {
		list.Entries = append(list.Entries, maildir.UIDEntry{UID: m.UID, Base: m.base})
	}
	err := d.mkdir(dir)
	for _, sub := range []string{"tmp", "new"} {
		if err == nil {
			err = d.mkdir(filepath.Join(dir, sub))
		}
	}
	if err == nil && c.name != maildir.Inbox {
		err = d.write(filepath.Join(dir, folderMark), nil)
	}
	if err == nil {
		err = d.put(filepath.Join(dir, maildir.UIDListFile), list.Bytes())
	}
	if err == nil {
		err = d.mkdir(filepath.Join(dir, "cur"))
	}
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	return nil
}

// folderMark tells Maildir++ readers that a directory is a folder.
const folderMark = "maildirfolder"

// bodyPath gives the place of a body by its message's base name, or by the unique part of that.
func bodyPath(base string) string { return filepath.Join(incomingDir, maildir.Unique(base)) }

// grave gives the place of a deleted folder.
func grave(guid string) string { return filepath.Join(trashDir, guid) }
