package store

import (
	"errors"
	"os"
	"path/filepath"

	"anycastle/mailroles/maildir"
)

// place makes the tree as an operation wants it, without waiting for the disk: the log has the operation, and the next
// checkpoint makes the tree durable. What could not be done is done then, or at the next start.
func (m *Mailbox) place(o *op, out outcome) error {
	d := m.store.files
	switch o.Kind {
	case opCreate:
		return d.makeFolder(out.folder.dir(m.address), out.folder)
	case opDelete:
		return m.bury(o, out)
	case opRename:
		return m.moveFolders(o)
	}
	var errs []error
	target := out.folder
	if out.to != nil {
		target = out.to
	}
	if target != nil {
		dir := target.dir(m.address)
		sources := o.sources(out)
		for i, msg := range out.put {
			if m.store.replica != nil {
				errs = append(errs, m.placeReplicated(o, target, msg, out.was[i], sources[msg.UID]))
			} else {
				errs = append(errs, m.placeMessage(o.Kind, dir, target, msg, out.was[i]))
			}
		}
	}
	if out.folder != nil {
		dir := out.folder.dir(m.address)
		for _, msg := range out.gone {
			errs = append(errs, m.discard(out.folder.guid, dir, msg))
		}
	}
	return errors.Join(errs...)
}

func (m *Mailbox) placeMessage(k kind, dir string, c *contents, msg, was *Message) error {
	if k == opAdopt && was == nil {
		msg.file = m.adopting[msg.base]
	}
	from := bodyPath(msg.base)
	if msg.file != "" {
		from = filepath.Join(dir, msg.file)
	}
	file := c.wanted(msg)
	if k == opDeliver && was == nil && msg.Marks.Equal(Marks{}) {
		file = filepath.Join("new", msg.base)
	}
	if file == msg.file {
		return nil
	}
	if err := m.store.files.rename(from, filepath.Join(dir, file)); err != nil {
		return err
	}
	msg.file = file
	return nil
}

// discard removes the file of a message that is gone.
func (m *Mailbox) discard(guid, dir string, msg *Message) error {
	path := bodyPath(msg.base)
	if msg.file != "" {
		path = filepath.Join(dir, msg.file)
	}
	if m.store.replica != nil {
		m.forgo(msg)
	}
	err := m.store.retire(path, msg.base)
	if err != nil {
		m.dead[deadFile{guid, msg.base}] = true
	}
	return err
}

// bury takes a deleted folder out of the tree as a whole.
func (m *Mailbox) bury(o *op, out outcome) error {
	var errs []error
	for _, msg := range out.gone {
		if m.store.replica != nil {
			m.forgo(msg)
		}
		if msg.file == "" {
			errs = append(errs, m.store.retire(bodyPath(msg.base), msg.base))
		}
	}
	if err := m.store.rememberFolder(out.folder); err != nil {
		m.log.Warn("deleted folder cannot come back with its UIDs", "folder", out.folder.name, "err", err)
	}
	err := m.store.bury(out.folder.dir(m.address), grave(o.Folder))
	if errors.Is(err, os.ErrNotExist) {
		return errors.Join(errs...)
	}
	if err == nil && m.store.replica != nil && len(out.gone) <= retireAtOnce { // else Run does it
		if err := m.store.retireFolder(grave(o.Folder)); err != nil {
			m.log.Warn("deleted folder leaves files", "err", err)
		}
	}
	return errors.Join(append(errs, err)...)
}

func (m *Mailbox) moveFolders(o *op) error {
	var errs []error
	for _, r := range o.Renames {
		f := m.byGUID[r.Folder]
		was := m.address
		for name, known := range m.byName {
			if known == f {
				sub, err := maildir.FolderDir(name)
				errs = append(errs, err)
				was = filepath.Join(m.address, sub)
			}
		}
		errs = append(errs, m.store.files.rename(was, f.dir(m.address)))
	}
	return errors.Join(errs...)
}
