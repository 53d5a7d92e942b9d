package store

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"anycastle/mailroles/maildir"
)

// logged is an operation of the log since the last checkpoint.
type logged struct {
	index uint64
	op    *op
}

// load reads the mailbox unless that has been done: from its directory comes the state of the last checkpoint, or one
// between that and the log's end; the operations of the log lead to the state that was acknowledged; the tree is made
// fit; and what others put there is adopted. The caller holds loading.
func (m *Mailbox) load(ops []logged) error {
	if m.loaded {
		return nil
	}
	if err := m.store.files.mkdir(m.address); err != nil {
		return fmt.Errorf("make mailbox: %w", err)
	}
	t, err := m.store.readTree(m.address)
	if err != nil {
		return err
	}
	if err := m.nameFolders(t); err != nil {
		return err
	}
	st, letters, err := m.store.begin(t)
	if err != nil {
		return err
	}
	for _, r := range m.store.lostRecents(m.address) {
		st.recent.add(r.Tx, r.At)
		st.recent.tell(r.Tx, r.Sum)
		st.recent.lose(r.Tx)
	}
	var before []func(*state, logged)
	if m.store.replica != nil {
		before = append(before, m.trace)
	}
	dead := replay(st, ops, before...)
	named := st.read(letters)
	if m.store.replica != nil {
		if err := m.trust(st, t, named); err != nil {
			return err
		}
	}
	for _, o := range st.odd {
		m.store.note(func(r *Report) { r.Odd++ })
		m.log.Error("log does not fit the mailbox", "what", o.text)
	}
	m.adopt(st)
	m.follow()
	m.dead = dead
	p, err := m.repair(t)
	if err != nil {
		return err
	}
	m.keepKeywords(named)
	if err := m.settle(p, t, m.operateAlone); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(ops) > 0 || t.looked > 0 {
		m.outdate()
	}
	m.loaded = true
	m.ready.Store(true)
	return nil
}

// follow has snapshots capture the mailbox before an operation changes it: what others put there is adopted while it is still being
// loaded.
func (m *Mailbox) follow() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.replayed = true
	m.store.captureLoaded(m)
}

// read gives messages the marks that their letters stand for, and tells which folders got names for letters that had
// none.
func (st *state) read(letters map[*Message]maildir.Flags) (named []*contents) {
	for _, c := range st.folders {
		before := slices.Clone(c.keywords)
		for _, msg := range c.messages {
			if l, ok := letters[msg]; ok {
				msg.Marks = c.read(l)
			}
		}
		if !slices.Equal(before, c.keywords) {
			named = append(named, c)
		}
	}
	return named
}

// keepKeywords writes the keywords of folders down before an operation speaks of others: the log does not tell which
// letters had no keyword, and after a crash a new one would get the same. On a full disk the next checkpoint has to do.
func (m *Mailbox) keepKeywords(named []*contents) {
	for _, c := range named {
		err := m.store.files.put(filepath.Join(c.dir(m.address), maildir.KeywordsFile), maildir.KeywordsBytes(c.keywords))
		if err != nil {
			m.log.Warn("keywords of a folder are not kept yet", "folder", c.name, "err", err)
		}
	}
	if len(named) > 0 {
		m.mu.Lock()
		m.outdate()
		m.mu.Unlock()
	}
}

// outdate has the next checkpoint write all lists.
func (m *Mailbox) outdate() {
	m.dirty = true
	for _, f := range m.byGUID {
		f.stale = true
	}
}

// adopt makes a state the mailbox's.
func (m *Mailbox) adopt(st *state) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st.odd = nil
	m.state, m.promised = st, st.usage
	m.byGUID, m.byName, m.txAhead = map[string]*Folder{}, map[string]*Folder{}, map[string]*proposal{}
	for _, c := range st.folders {
		m.open(c)
	}
}

// nameFolders gives ids to folders whose UID lists have none, durably, as operations name folders by them; and takes
// the list away from those that are copies of others.
func (m *Mailbox) nameFolders(t *tree) error {
	seen := map[string]bool{}
	slices.SortFunc(t.folders, func(a, b *treeFolder) int { return strings.Compare(a.dir, b.dir) })
	for _, f := range t.folders {
		if f.list == nil {
			continue
		}
		path := filepath.Join(f.dir, maildir.UIDListFile)
		if seen[f.list.GUID] {
			f.list = nil
			t.damaged = append(t.damaged, oddFile{path, "UID list is a copy of another folder's"})
			continue
		}
		if !isGUID(f.list.GUID) {
			guid := make([]byte, 16)
			if _, err := rand.Read(guid); err != nil {
				return fmt.Errorf("make folder id: %w", err)
			}
			f.list.GUID = hex.EncodeToString(guid)
			if err := m.store.files.put(path, f.list.Bytes()); err != nil {
				return fmt.Errorf("write UID list: %w", err)
			}
		}
		seen[f.list.GUID] = true
	}
	return nil
}

// begin makes the state of a tree. Letters of keywords are given apart: what they mean may stand in the log.
func (s *Store) begin(t *tree) (*state, map[*Message]maildir.Flags, error) {
	st := newState()
	st.counter, st.subscribed, st.changed = t.counter, t.subs, t.changed
	letters := map[*Message]maildir.Flags{}
	for _, f := range t.folders {
		if f.list == nil {
			continue
		}
		c := &contents{guid: f.list.GUID, name: f.name, validity: f.list.Validity, next: f.list.Next, keywords: f.keywords, changed: f.changed}
		st.folders[c.guid] = c
		for _, e := range f.list.Entries {
			msg := &Message{UID: e.UID, base: e.Base}
			if files := f.files[e.Base]; len(files) > 0 {
				file := files[len(files)-1] // the one in cur, when there are two: it has the flags
				msg.base = file.file[len("cur/") : len("cur/")+len(e.Base)]
				info, err := s.info(t, f, e.Base, filepath.Join(f.dir, file.file))
				if err != nil {
					return nil, nil, err
				}
				msg.Size, msg.Wide, msg.Date, msg.Modseq, msg.Sum = info.size, info.wide, info.date, info.modseq, info.sum
				letters[msg] = file.letters
			} else if i, ok := f.index[e.Base]; ok && s.replica != nil {
				msg.Size, msg.Wide, msg.Date, msg.Modseq, msg.Sum = i.size, i.wide, i.date, i.modseq, i.sum
				letters[msg] = i.flags
			}
			st.usage.add(msg.Size, 1)
			c.messages = append(c.messages, msg)
		}
	}
	st.remember()
	return st, letters, nil
}

// remember learns the transaction ids of deliveries from the names of messages. It passes over those that are too old
// beside the newest.
func (st *state) remember() {
	type delivery struct {
		at      int64
		tx, sum string
	}
	var list []delivery
	for _, c := range st.folders {
		for _, m := range c.messages {
			if at, tx, ok := maildir.Delivered(m.base); ok {
				list = append(list, delivery{at.Unix(), tx, m.Sum})
			}
		}
	}
	slices.SortFunc(list, func(a, b delivery) int { return int(a.at - b.at) })
	for _, d := range list {
		if d.at >= list[len(list)-1].at-int64(txMemory/time.Second) {
			tx := strings.Clone(d.tx)
			st.recent.add(tx, d.at)
			st.recent.tell(tx, d.sum)
		}
	}
}

// replay does the operations of the log, and gives the files of messages that they removed.
func replay(st *state, ops []logged, before ...func(*state, logged)) map[deadFile]bool {
	dead := map[deadFile]bool{}
	for _, l := range ops {
		for _, look := range before {
			look(st, l)
		}
		st.apply(l.index, l.op)
		for _, e := range l.op.Gone {
			dead[deadFile{l.op.Folder, e.Base}] = true
		}
	}
	return dead
}

// carrier carries out one operation.
type carrier func(relief bool, build func() (*op, error)) error

// fit makes the tree fit the state, and takes in what nobody knows. The caller holds the store's gate.
func (m *Mailbox) fit(t *tree, do carrier) error {
	p, err := m.repair(t)
	if err != nil {
		return err
	}
	return m.settle(p, t, do)
}

// settle sees to what the tree has and the state does not, and the other way round.
func (m *Mailbox) settle(p plan, t *tree, do carrier) error {
	if m.store.replica != nil {
		return m.shelve(p)
	}
	return m.takeIn(p, t, do)
}

// repair makes the tree fit the state. The caller holds loading, or the store's gate.
func (m *Mailbox) repair(t *tree) (plan, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.store.replica != nil {
		if err := m.seek(t); err != nil {
			m.behind = true
			return plan{}, fmt.Errorf("make mailbox %s fit: %w", m.address, err)
		}
	}
	p := makePlan(m.address, m.state, t, m.dead)
	err := m.run(p)
	m.behind = err != nil
	if len(p.steps) > 0 {
		m.outdate()
	}
	if err != nil {
		return p, fmt.Errorf("make mailbox %s fit: %w", m.address, err)
	}
	return p, nil
}

func (m *Mailbox) run(p plan) error {
	d := m.store.files
	for _, s := range p.steps {
		var err error
		switch s.do {
		case stepRename:
			err = m.store.bury(s.from, s.to)
		case stepMakeFolder:
			err = d.makeFolder(s.to, s.folder)
		case stepRemove:
			err = m.store.retire(s.from, baseOf(s.from))
		case stepQuarantine:
			err = m.store.quarantine(s.from, s.reason)
		}
		if err != nil {
			return err
		}
	}
	for msg, file := range p.files {
		read := msg.file == ""
		if msg.file = file; !read {
			continue // others may be reading its base name
		}
		msg.base = file[len("cur/") : len("cur/")+len(msg.base)] // the same text, kept once
	}
	m.dead = map[deadFile]bool{}
	return nil
}

// baseOf gives the base name of a message's file.
func baseOf(path string) string {
	name, _ := maildir.ParseName(filepath.Base(path))
	return name.Base
}
