package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"anycastle/mailroles/maildir"
)

// fetchTime is how long a message is waited for that a client asks for and that is not here.
const fetchTime = 3 * time.Second

// lack is a message whose body is not here.
type lack struct {
	Body
	folder string // GUID
	uid    uint32
	index  uint64 // of the operation that brought it, or less
}

// lacks are all of them.
type lacks struct {
	byName map[string]*lack
	bySum  map[string]map[*lack]bool // in one mailbox
	came   tally                     // operations by key
}

func newLacks() lacks {
	return lacks{byName: map[string]*lack{}, bySum: map[string]map[*lack]bool{}}
}

func (b Body) key() string { return b.Mailbox + "/" + b.Name }

func (b Body) sumKey() string { return b.Mailbox + "/" + b.Sum }

func (l *lacks) add(k *lack) {
	l.remove(k.Body)
	l.byName[k.key()] = k
	l.came.set(k.key(), k.index)
	if l.bySum[k.sumKey()] == nil {
		l.bySum[k.sumKey()] = map[*lack]bool{}
	}
	l.bySum[k.sumKey()][k] = true
}

func (l *lacks) remove(b Body) {
	k := l.byName[b.key()]
	if k == nil {
		return
	}
	delete(l.byName, k.key())
	l.came.drop(k.key())
	delete(l.bySum[k.sumKey()], k)
	if len(l.bySum[k.sumKey()]) == 0 {
		delete(l.bySum, k.sumKey())
	}
}

// namesKept is how many bodies are remembered that have been placed.
const namesKept = 1 << 16

// names are the last names that were added.
type names struct {
	has  map[string]bool
	ring []string
	next int
}

func (n *names) add(name string) {
	if n.has == nil {
		n.has = map[string]bool{}
	}
	if n.has[name] {
		return
	}
	n.has[name] = true
	if len(n.ring) < namesKept {
		n.ring = append(n.ring, name)
		return
	}
	delete(n.has, n.ring[n.next])
	n.ring[n.next] = name
	n.next = (n.next + 1) % namesKept
}

// body gives a message's body.
func (m *Mailbox) body(msg *Message) Body {
	return Body{Mailbox: m.address, Name: maildir.Unique(msg.base), Sum: msg.Sum, Size: msg.Size, Date: msg.Date.Unix()}
}

// lack notes that the body of a message is not here, and places it when it has come by now. The caller holds mu.
func (m *Mailbox) lack(c *contents, msg *Message, index uint64) error {
	r := m.store.replica
	b := m.body(msg)
	r.mu.Lock()
	r.lacks.add(&lack{Body: b, folder: c.guid, uid: msg.UID, index: index})
	delete(r.gone.has, b.Name)
	r.mu.Unlock()
	msg.file = ""
	m.lacking = true
	if st, err := os.Stat(m.store.files.at(bodyPath(b.Name))); err != nil || st.Size() != b.Size {
		return nil // who brings it looks here afterwards
	}
	return m.supply(c, msg)
}

// forgo notes that a message which may have had no body is gone: the body may come all the same. The caller holds mu.
func (m *Mailbox) forgo(msg *Message) {
	r, b := m.store.replica, m.body(msg)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lacks.byName[b.key()] != nil {
		r.lacks.remove(b)
		r.gone.add(b.Name)
	}
}

// note remembers that a body is here.
func (r *replica) note(b Body) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lacks.remove(b)
	r.placed.add(b.Name)
}

// supply places a message's body, which is in the incoming directory. The caller holds mu.
func (m *Mailbox) supply(c *contents, msg *Message) error {
	b := m.body(msg)
	file := c.inCur(msg)
	if err := m.store.files.rename(bodyPath(b.Name), filepath.Join(c.dir(m.address), file)); err != nil {
		return err
	}
	m.supplied(c, msg, file)
	return nil
}

func (m *Mailbox) supplied(c *contents, msg *Message, file string) {
	msg.file = file
	m.learnText(c, msg)
	m.store.replica.note(m.body(msg))
	m.dirty = true
	if f := m.byGUID[c.guid]; f != nil {
		f.stale = true
	}
}

// provide places a body that came for the messages of its mailbox that have its text.
func (r *replica) provide(b Body) error {
	for {
		r.mu.Lock()
		var some *lack
		for k := range r.lacks.bySum[b.sumKey()] {
			if some == nil || k.Name == b.Name { // the others get links to it
				some = k
			}
		}
		r.mu.Unlock()
		if some == nil {
			return r.dropLate(b)
		}
		err := r.provideOne(b, *some)
		if errors.Is(err, os.ErrNotExist) {
			return nil // it went with its message; the others must be fetched
		}
		if err != nil {
			return err
		}
	}
}

// dropLate puts a body that came after its message went where those of messages that went are.
func (r *replica) dropLate(b Body) error {
	r.mu.Lock()
	late := r.gone.has[b.Name]
	r.mu.Unlock()
	if !late {
		return nil
	}
	r.store.gate.RLock()
	defer r.store.gate.RUnlock()
	if err := r.store.retire(bodyPath(b.Name), b.Name); err != nil {
		return fmt.Errorf("put late body aside: %w", err)
	}
	return nil
}

func (r *replica) provideOne(b Body, k lack) error {
	s := r.store
	s.mu.Lock()
	m := s.boxes[k.Mailbox] // is not let go while it lacks something
	s.mu.Unlock()
	s.gate.RLock()
	defer s.gate.RUnlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	c, msg := m.lacked(k)
	if msg == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lacks.remove(k.Body)
		return nil
	}
	if k.Name == b.Name {
		if err := m.supply(c, msg); err != nil {
			return fmt.Errorf("place body: %w", err)
		}
		return nil
	}
	file := c.inCur(msg)
	err := s.files.link(m.sameText(b), filepath.Join(c.dir(m.address), file))
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("place body: %w", err)
	}
	m.supplied(c, msg, file)
	return nil
}

// lacked gives the message that a lack is of, while it is without a body.
func (m *Mailbox) lacked(k lack) (*contents, *Message) {
	f := m.byGUID[k.folder]
	if f == nil {
		return nil, nil
	}
	i, ok := f.find(k.uid)
	if !ok || f.messages[i].file != "" || maildir.Unique(f.messages[i].base) != k.Name {
		return nil, nil
	}
	return f.contents, f.messages[i]
}

// sameText gives the path of a body that came: in the incoming directory, or where it was placed.
func (m *Mailbox) sameText(b Body) string {
	if _, err := os.Stat(m.store.files.at(bodyPath(b.Name))); err == nil {
		return bodyPath(b.Name)
	}
	if f, msg := m.bySum(b.Sum); msg != nil {
		return f.path(msg)
	}
	return bodyPath(b.Name)
}

// Missing lists bodies that are not here, in the order in which they came, and counts them. Without a list that costs little
// however many there are.
func (s *Store) Missing(limit int) (list []Body, total int) {
	r := s.replica
	r.mu.Lock()
	if total = len(r.lacks.byName); limit <= 0 {
		r.mu.Unlock()
		_, n, _ := s.queueMissing(0)
		return nil, total + n
	}
	all := slices.Collect(maps.Values(r.lacks.byName))
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b *lack) int { return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.Name, b.Name)) })
	for _, k := range all[:min(limit, len(all))] {
		list = append(list, k.Body)
	}
	queued, n, _ := s.queueMissing(limit - len(list))
	return append(list, queued...), len(all) + n
}

// Complete tells up to which operation all bodies are here. It is 0 until each mailbox has been looked at since the start. It
// costs little however many are not here.
func (s *Store) Complete() uint64 {
	r := s.replica
	if !s.checked.Load() {
		return 0
	}
	upTo := s.Applied().Index // before what is missing is looked at, as operations come meanwhile
	if _, n, first := s.queueMissing(0); n > 0 {
		upTo = min(upTo, max(first, 1)-1)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lacks.byName) > 0 {
		upTo = min(upTo, max(r.lacks.came.first(), 1)-1)
	}
	return upTo
}

// GiveUp takes a message out whose body no replica has. It is for those of which it is proven that nobody was told that
// they are here. The error is ErrNoMessage when there is no such message without a body.
func (s *Store) GiveUp(b Body) error {
	if b.Mailbox == queueMailbox {
		return s.queueGiveUp(b)
	}
	r := s.replica
	r.mu.Lock()
	k := r.lacks.byName[b.key()]
	r.mu.Unlock()
	if k == nil {
		return fmt.Errorf("give up %s of %s: %w", b.Name, b.Mailbox, ErrNoMessage)
	}
	m, err := s.Mailbox(b.Mailbox)
	if err != nil {
		return err
	}
	return m.operate(true, func() (*op, error) {
		c, msg := m.lacked(*k)
		if msg == nil {
			return nil, nil
		}
		m.log.Error("message is given up, as no replica has its body", "folder", c.name, "uid", msg.UID, "file", msg.base)
		return &op{Kind: opExpunge, Folder: c.guid, Gone: []maildir.UIDEntry{{UID: msg.UID, Base: msg.base}}}, nil
	})
}

// fetch gets the body of a message that is not here from another replica. The error is ErrMissing when that takes too
// long.
func (f *Folder) fetch(uid uint32, b Body) (*os.File, error) {
	s := f.box.store
	if err := f.miss(uid); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTime)
	defer cancel()
	if err := s.journal.Fetch(ctx, b); err != nil {
		return nil, fmt.Errorf("%w: uid %d: %w", ErrMissing, uid, err)
	}
	file, _, err := f.openHere(uid)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: uid %d", ErrMissing, uid)
	}
	return file, err
}

// miss notes that a message has no file, unless that is known.
func (f *Folder) miss(uid uint32) error {
	m := f.box
	m.store.gate.RLock()
	defer m.store.gate.RUnlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	i, ok := f.find(uid)
	if !ok || f.messages[i].file == "" {
		return nil
	}
	msg := f.messages[i]
	if _, err := os.Stat(m.store.files.at(f.path(msg))); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	m.log.Error("message has no file", "folder", f.name, "uid", uid, "file", msg.base)
	return m.lack(f.contents, msg, 0)
}
