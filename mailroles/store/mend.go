package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"anycastle/mailroles/maildir"
)

// trace notes where messages come from that an operation of the log copies, and which it brings. The tree may have their
// files by either name.
func (m *Mailbox) trace(st *state, l logged) {
	from := st.folders[l.op.Folder]
	bases := map[uint32]string{}
	for _, e := range l.op.Gone {
		bases[e.UID] = e.Base
	}
	for _, a := range l.op.Arrivals {
		name := maildir.Unique(a.Base)
		m.came[name] = l.index
		if a.From == 0 {
			continue
		}
		if base, ok := bases[a.From]; ok {
			m.origins[name] = base
		} else if from != nil {
			if i, ok := from.find(a.From); ok {
				m.origins[name] = from.messages[i].base
			}
		}
	}
}

// trust refuses a state that the tree and the log do not lead to: what the tree lost is then found in no other way than
// by asking another replica for all of it.
func (m *Mailbox) trust(st *state, t *tree, named []*contents) error {
	for _, c := range named {
		return m.store.distrust(fmt.Sprintf("keywords of %s of %s are lost", c.name, m.address))
	}
	for _, d := range t.damaged {
		return m.store.distrust(fmt.Sprintf("%s: %s", d.path, d.reason))
	}
	for _, f := range t.folders {
		if f.list == nil && !st.begins(f.name) {
			return m.store.distrust(f.dir + " has no UID list")
		}
		if why := f.listsWhy(); why != "" {
			return m.store.distrust(f.dir + ": " + why)
		}
	}
	for _, o := range st.odd {
		return m.store.distrust(fmt.Sprintf("log does not fit mailbox %s: %s", m.address, o.text))
	}
	for _, c := range st.folders {
		for _, msg := range c.messages {
			if msg.Sum == "" {
				return m.store.distrust(fmt.Sprintf("no sum is known of message %d in %s of %s", msg.UID, c.name, m.address))
			}
		}
	}
	return nil
}

// begins reports whether there is a folder of a name: a crash may have come before its list was there.
func (st *state) begins(name string) bool {
	for _, c := range st.folders {
		if c.name == name {
			return true
		}
	}
	return false
}

// seek gives second names in the incoming directory to the files of messages that have none of their own and whose text
// is there under another name, so that they are found. The caller holds mu.
func (m *Mailbox) seek(t *tree) error {
	has := map[string]*treeFolder{}
	for _, f := range t.folders {
		if f.list != nil {
			has[f.list.GUID] = f
		}
	}
	var search *search
	for guid, c := range m.state.folders {
		for _, msg := range c.messages {
			name := maildir.Unique(msg.base)
			if f := has[guid]; f != nil && len(f.files[msg.base]) > 0 || t.incoming[name] {
				continue
			}
			if search == nil {
				search = m.newSearch(t)
			}
			path, ok, err := search.find(name, msg)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			if err := m.store.files.link(path, bodyPath(name)); err != nil {
				return err
			}
			t.incoming[name] = true
		}
	}
	return nil
}

// search finds texts in a tree.
type search struct {
	mailbox *Mailbox
	tree    *tree
	files   map[string]string // by base name
	sums    map[string]string
	waiting map[int64][]string // in the incoming directory, by size; nil: not looked at
}

func (m *Mailbox) newSearch(t *tree) *search {
	s := &search{mailbox: m, tree: t, files: map[string]string{}, sums: map[string]string{}}
	for _, f := range t.folders {
		for base, files := range f.files {
			s.files[base] = filepath.Join(f.dir, files[0].file)
		}
	}
	for _, c := range m.state.folders {
		for _, msg := range c.messages {
			if path, ok := s.files[msg.base]; ok {
				s.sums[msg.Sum] = path
			}
		}
	}
	return s
}

// find gives the file of what a message was copied from, or of another with its sum, or a body that came for one that is
// gone by now.
func (s *search) find(name string, msg *Message) (path string, ok bool, err error) {
	for range len(s.mailbox.origins) {
		base, ok := s.mailbox.origins[name]
		if !ok {
			break
		}
		if path, ok := s.files[base]; ok {
			return path, true, nil
		}
		if name = maildir.Unique(base); s.tree.incoming[name] {
			return bodyPath(base), true, nil
		}
	}
	if path, ok := s.sums[msg.Sum]; ok {
		return path, true, nil
	}
	return s.look(msg)
}

// look finds a message's text in the incoming directory, under whatever name.
func (s *search) look(msg *Message) (path string, ok bool, err error) {
	store := s.mailbox.store
	if s.waiting == nil {
		s.waiting = map[int64][]string{}
		for name := range s.tree.incoming {
			path := filepath.Join(incomingDir, name)
			st, err := os.Stat(store.files.at(path))
			if errors.Is(err, os.ErrNotExist) { // another mailbox took it
				continue
			}
			if err != nil {
				return "", false, err
			}
			s.waiting[st.Size()] = append(s.waiting[st.Size()], path)
		}
	}
	for _, path := range s.waiting[msg.Size] {
		sum, err := store.sumOf(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", false, err
		}
		if err == nil && sum == msg.Sum {
			return path, true, nil
		}
	}
	return "", false, nil
}

// shelve puts aside what a tree has that the state does not know, and notes what it does not have. The caller holds
// loading, or the store's gate.
func (m *Mailbox) shelve(p plan) error {
	const unknown = "is of no operation"
	for _, f := range p.bare {
		return m.store.distrust(f.dir + " has no UID list")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for guid, list := range p.foreign {
		dir := m.byGUID[guid].dir(m.address)
		for _, f := range list {
			if err := m.store.quarantine(filepath.Join(dir, f.file), unknown); err != nil {
				return err
			}
		}
	}
	for guid, list := range p.lost {
		c := m.state.folders[guid]
		for _, msg := range list {
			m.log.Warn("body of a message is missing", "folder", c.name, "uid", msg.UID, "file", msg.base)
			if err := m.lack(c, msg, m.came[maildir.Unique(msg.base)]); err != nil {
				return err
			}
		}
	}
	clear(m.origins)
	clear(m.came)
	return nil
}

// away gives the letters of the messages that have no file whose name would tell them.
func (m *Mailbox) away(c *contents) map[*Message]maildir.Flags {
	if !m.lacking {
		return nil
	}
	away := map[*Message]maildir.Flags{}
	for _, msg := range c.messages {
		if msg.file == "" {
			name, _ := maildir.ParseName(filepath.Base(c.inCur(msg)))
			away[msg] = name.Flags
		}
	}
	return away
}

// blankFile says that the tree is none that operations can be done on.
var blankFile = filepath.Join(logDir, "blank")

// Distrust stops the store, and has its tree made anew from another replica: somebody else has found that it is wrong. Its
// error is ErrBlank.
func (s *Store) Distrust(reason string) error { return s.distrust(reason) }

// distrust stops the store, and has the tree made anew from another replica.
func (s *Store) distrust(reason string) error {
	err := fmt.Errorf("%w: %s", ErrBlank, reason)
	if perr := s.files.put(blankFile, []byte(reason+"\n")); perr != nil {
		err = errors.Join(err, fmt.Errorf("note that: %w", perr))
	}
	s.fail(err)
	return err
}
