package store

import (
	"errors"
	"os"
	"path/filepath"

	"anycastle/mailroles/maildir"
)

// placeReplicated makes the file of a message what it should be in a replicated LUN, where bodies may be missing. Each
// replica gives copies their files itself.
func (m *Mailbox) placeReplicated(o *op, c *contents, msg, was, src *Message) error {
	if was != nil {
		return m.renew(c, msg)
	}
	from := bodyPath(msg.base)
	move := m.store.files.rename
	if o.Kind == opCopy || o.Kind == opMove {
		if src == nil || src.file == "" {
			return m.lack(c, msg, msg.Modseq)
		}
		from = filepath.Join(m.byGUID[o.Folder].dir(m.address), src.file)
		if o.Kind == opCopy {
			move = m.store.files.link
		} else {
			src.file = "" // else it would be removed when this fails
		}
		m.origins[maildir.Unique(msg.base)] = src.base
	}
	file := c.wanted(msg)
	if o.Kind == opDeliver && msg.Marks.Equal(Marks{}) {
		file = filepath.Join("new", msg.base)
	}
	to := filepath.Join(c.dir(m.address), file)
	err := move(from, to)
	if errors.Is(err, os.ErrNotExist) {
		if err = m.borrow(o, msg, to); errors.Is(err, os.ErrNotExist) {
			return m.lack(c, msg, msg.Modseq)
		}
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	delete(m.origins, maildir.Unique(msg.base))
	m.supplied(c, msg, file)
	return nil
}

// sources gives the messages that an operation copied or moved, by the UIDs that the copies have.
func (o *op) sources(out outcome) map[uint32]*Message {
	if o.Kind != opCopy && o.Kind != opMove || out.folder == nil {
		return nil
	}
	gone := map[uint32]*Message{}
	for _, msg := range out.gone {
		gone[msg.UID] = msg
	}
	sources := map[uint32]*Message{}
	for _, a := range o.Arrivals {
		if msg := gone[a.From]; msg != nil {
			sources[a.UID] = msg
		} else if i, ok := out.folder.find(a.From); ok {
			sources[a.UID] = out.folder.messages[i]
		}
	}
	return sources
}

// borrow gives a message the text of another of its mailbox that has the same. The error is os.ErrNotExist when there is
// none.
func (m *Mailbox) borrow(o *op, msg *Message, to string) error {
	if f, same := m.bySum(msg.Sum); same != nil && same != msg {
		return m.store.files.link(f.path(same), to)
	}
	if o.Kind == opRestore {
		if path, ok := m.store.kept(m.body(msg)); ok {
			return m.store.keepBody(methodHardlink, path, to)
		}
	}
	return os.ErrNotExist
}

// renew gives a message's file the name that its marks want.
func (m *Mailbox) renew(c *contents, msg *Message) error {
	if msg.file == "" {
		return nil // what brings the body gives it its name
	}
	dir, file := c.dir(m.address), c.wanted(msg)
	if file == msg.file {
		return nil
	}
	err := m.store.files.rename(filepath.Join(dir, msg.file), filepath.Join(dir, file))
	if errors.Is(err, os.ErrNotExist) {
		m.log.Error("message has no file", "folder", c.name, "uid", msg.UID, "file", msg.base)
		return m.lack(c, msg, 0)
	}
	if err == nil {
		msg.file = file
	}
	return err
}
