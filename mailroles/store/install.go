package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"anycastle/mailroles/maildir"
)

// seedingDir holds what the tree was before it is made what another replica's is.
const seedingDir = ".seeding"

// manifestFile is the manifest while it is installed.
var manifestFile = filepath.Join(logDir, "manifest")

// Install makes this replica's state that of a manifest, and gives its position: operations go on from there. Bodies that
// are here already stay, by the names of their files; others are Missing. What the manifest does not know is put into
// quarantine. No operation may run meanwhile. Until it is done the store is Blank, also after a crash; it must be done
// again then.
func (s *Store) Install(r io.Reader) (Position, error) {
	rep := s.replica
	rep.applying.Lock()
	defer rep.applying.Unlock()
	s.saving.Lock()
	defer s.saving.Unlock()
	at, err := s.install(r)
	if err != nil {
		return at, fmt.Errorf("install manifest: %w", err)
	}
	return at, nil
}

func (s *Store) install(r io.Reader) (at Position, err error) {
	if at, err = s.keepManifest(r); err != nil {
		return at, err
	}
	if err := s.files.put(blankFile, []byte("an installation did not end\n")); err != nil {
		return at, err
	}
	if err := s.clearTree(); err != nil {
		return at, err
	}
	found, err := s.findBodies()
	if err != nil {
		return at, err
	}
	if err := s.plant(found); err != nil {
		return at, err
	}
	for _, path := range found.left() {
		if err := s.quarantine(path, "is of no message since this replica was made anew"); err != nil {
			return at, err
		}
	}
	if err := s.files.removeAll(seedingDir); err != nil {
		return at, err
	}
	s.replica.installed(at)
	s.checked.Store(true)
	if err := s.checkpoint(); err != nil {
		return at, err
	}
	err = errors.Join(s.files.remove(manifestFile), s.files.remove(blankFile))
	if err == nil {
		err = s.files.syncDir(logDir)
	}
	return at, err
}

// keepManifest writes a manifest down once it is here as a whole, so that nothing is touched for half of one.
func (s *Store) keepManifest(r io.Reader) (at Position, err error) {
	if err := s.files.remove(manifestFile); err != nil {
		return at, err
	}
	f, err := s.files.create(manifestFile)
	if err != nil {
		return at, err
	}
	at, err = checkManifest(io.TeeReader(r, f))
	return at, errors.Join(err, f.Close())
}

// clearTree puts all mailboxes where their files are looked for. Those of an installation that did not end are there.
func (s *Store) clearTree() error {
	if err := s.files.mkdir(seedingDir); err != nil {
		return err
	}
	addresses, err := s.addresses()
	if err != nil {
		return err
	}
	before, err := os.ReadDir(s.files.at(seedingDir))
	if err != nil {
		return err
	}
	for i, address := range addresses {
		to := filepath.Join(seedingDir, fmt.Sprintf("%d-%s", len(before)+i, address))
		if err := s.files.rename(address, to); err != nil {
			return err
		}
	}
	s.mu.Lock()
	clear(s.boxes)
	clear(s.lost)
	clear(s.usage)
	s.mu.Unlock()
	r := s.replica
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lacks, r.placed, r.gone = newLacks(), names{}, names{}
	return nil
}

// bodiesFound are the files of an earlier tree that may be bodies of messages.
type bodiesFound struct {
	byName   map[string]string // by the unique part of the base name
	incoming map[string]bool   // paths in the incoming directory
	more     []string          // second files of messages
}

// findBodies looks through what was the tree.
func (s *Store) findBodies() (*bodiesFound, error) {
	found := &bodiesFound{byName: map[string]string{}, incoming: map[string]bool{}}
	err := filepath.WalkDir(s.files.at(seedingDir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if dir := filepath.Base(filepath.Dir(path)); dir != "cur" && dir != "new" {
			return nil
		}
		path = strings.TrimPrefix(path, s.root+string(filepath.Separator))
		name := maildir.Unique(baseOf(path))
		if _, second := found.byName[name]; second {
			found.more = append(found.more, path)
		} else {
			found.byName[name] = path
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.files.at(incomingDir))
	for _, e := range entries {
		path := filepath.Join(incomingDir, e.Name())
		if _, second := found.byName[e.Name()]; !second {
			found.byName[e.Name()] = path
		}
		found.incoming[path] = true
	}
	return found, err
}

// left gives what no message has taken. What was in the incoming directory may be of operations that come.
func (f *bodiesFound) left() []string {
	list := f.more
	for _, path := range f.byName {
		if !f.incoming[path] {
			list = append(list, path)
		}
	}
	return list
}

// plant makes the mailboxes of the manifest.
func (s *Store) plant(found *bodiesFound) error {
	f, err := os.Open(s.files.at(manifestFile))
	if err != nil {
		return err
	}
	m := readManifest(f)
	var p planting
	var recent []recentTx
	var queue []json.RawMessage
	for err == nil && m.next() {
		switch l := m.line; {
		case l.Mailbox != nil:
			if err = s.rear(&p, found); err == nil {
				p = planting{address: l.Mailbox.Address, state: newState()}
				p.state.counter, p.state.changed, p.state.subscribed = l.Mailbox.Counter, l.Mailbox.Changed, l.Mailbox.Subscribed
			}
		case l.Folder != nil:
			p.folder(l.Folder)
		case l.Message != nil:
			p.message(l.Message)
		case l.Recent != nil:
			recent = append(recent, *l.Recent)
		case l.Queue != nil:
			queue = append(queue, l.Queue)
		}
	}
	if err == nil {
		err = s.rear(&p, found)
	}
	if err == nil {
		err = s.queueInstall(queue)
	}
	if err = errors.Join(err, m.fail(), f.Close()); err != nil {
		return err
	}
	for _, r := range recent {
		s.mu.Lock()
		s.lost[r.Mailbox] = append(s.lost[r.Mailbox], r)
		box := s.boxes[r.Mailbox]
		s.mu.Unlock()
		if box != nil {
			box.mu.Lock()
			box.state.recent.add(r.Tx, r.At)
			box.state.recent.tell(r.Tx, r.Sum)
			box.state.recent.lose(r.Tx)
			box.mu.Unlock()
		}
	}
	return nil
}

// planting is a mailbox of a manifest that is being read.
type planting struct {
	address string
	state   *state
	last    *contents
}

func (p *planting) folder(l *manifestFolder) {
	p.last = &contents{guid: l.GUID, name: l.Name, validity: l.Validity, next: l.Next, changed: l.Changed, keywords: l.Keywords}
	p.state.folders[l.GUID] = p.last
}

func (p *planting) message(l *manifestMail) {
	p.last.messages = append(p.last.messages, l.message())
	p.state.usage.add(l.Size, 1)
}

// rear makes a mailbox, with the files that were found for it.
func (s *Store) rear(p *planting, found *bodiesFound) error {
	if p.state == nil {
		return nil
	}
	m, err := s.replicaBox(p.address)
	if err != nil {
		return err
	}
	m.loading.Lock()
	defer m.loading.Unlock()
	p.state.remember()
	m.adopt(p.state)
	m.loaded = true
	m.ready.Store(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.replayed = true
	m.dead = map[deadFile]bool{}
	m.outdate()
	for _, c := range p.state.sorted() {
		if err := s.files.makeFolder(c.dir(m.address), &contents{guid: c.guid, name: c.name, validity: c.validity, next: c.next}); err != nil {
			return err
		}
		for _, msg := range c.messages {
			if err := m.reuse(c, msg, found); err != nil {
				return err
			}
		}
	}
	return m.share()
}

// reuse gives a message the file that it had.
func (m *Mailbox) reuse(c *contents, msg *Message, found *bodiesFound) error {
	name := maildir.Unique(msg.base)
	path, ok := found.byName[name]
	if !ok {
		return nil
	}
	st, err := os.Stat(m.store.files.at(path))
	if err != nil {
		return err
	}
	if st.Size() != msg.Size {
		return nil
	}
	file := c.inCur(msg)
	if err := m.store.files.rename(path, filepath.Join(c.dir(m.address), file)); err != nil {
		return err
	}
	delete(found.byName, name)
	m.supplied(c, msg, file)
	return nil
}

// share gives messages without a file that of another with the same text, and notes those that have none then.
func (m *Mailbox) share() error {
	for _, c := range m.state.sorted() {
		for _, msg := range c.messages {
			if msg.file != "" {
				continue
			}
			f, same := m.bySum(msg.Sum)
			if same == nil {
				if err := m.lack(c, msg, 0); err != nil { // its MODSEQ may be that of a later operation
					return err
				}
				continue
			}
			file := c.inCur(msg)
			if err := m.store.files.link(f.path(same), filepath.Join(c.dir(m.address), file)); err != nil {
				return err
			}
			m.supplied(c, msg, file)
		}
	}
	return nil
}

// installed makes the position that of a manifest: the state is that of it, and whatever was kept for the tree of before
// counts no more.
func (r *replica) installed(at Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied, r.bytes = at, 0
	r.buffered, r.late, r.blank = nil, nil, false
	if !r.isSettled() {
		close(r.settled)
	}
}
