package store

import (
	"maps"
	"path/filepath"
	"slices"
	"sync"
)

// capture is what a LUN held at one moment. Mailboxes that are in memory are captured at that moment. The others have not
// changed since the last checkpoint, and are captured when somebody reads them, or by who writes the snapshot.
type capture struct {
	index uint64
	head  LUNSnapshot   // guarded by who writes, until done is closed
	done  chan struct{} // closed when the snapshot is whole, or is not
	err   error         // guarded as head

	mu      sync.Mutex
	waiting map[string]bool
	boxes   map[string]*captured
}

// captured is what a mailbox held.
type captured struct {
	address    string
	counter    uint32
	subscribed []string
	folders    []*contents         // their messages are shared with the mailbox's state
	files      map[*Message]string // where messages were, if that is known; below the LUN's directory
}

func newCapture(head LUNSnapshot, addresses []string) *capture {
	c := &capture{index: head.Index, head: head, done: make(chan struct{}), waiting: map[string]bool{}, boxes: map[string]*captured{}}
	for _, a := range addresses {
		c.waiting[a] = true
	}
	return c
}

// take captures a mailbox that is in memory, unless that has been done. The caller holds its mu.
func (c *capture) take(m *Mailbox) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[m.address] {
		delete(c.waiting, m.address)
		c.boxes[m.address] = m.state.capture(m.address)
	}
}

// capture gives a state as it is now, in time that depends on the number of folders.
func (st *state) capture(address string) *captured {
	b := &captured{address: address, counter: st.counter, subscribed: slices.Clone(st.subscribed)}
	for _, c := range st.sorted() {
		c.shared = true
		was := *c
		was.messages, was.keywords = slices.Clip(c.messages), slices.Clone(c.keywords)
		b.folders = append(b.folders, &was)
	}
	return b
}

// captureRest captures the mailboxes that wait for it.
func (s *Store) captureRest(c *capture) error {
	c.mu.Lock()
	waiting := slices.Sorted(maps.Keys(c.waiting))
	c.mu.Unlock()
	for _, address := range waiting {
		if err := s.captureBox(c, address); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) captureBox(c *capture, address string) error {
	s.mu.Lock()
	m, known := s.boxes[address]
	if !known {
		m = s.newBox(address)
	}
	s.mu.Unlock()
	m.loading.Lock() // so nobody reads it for others meanwhile
	defer m.loading.Unlock()
	if m.loaded {
		m.mu.Lock()
		c.take(m)
		m.mu.Unlock()
		return nil
	}
	b, err := s.captureTree(address)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if c.waiting[address] {
		delete(c.waiting, address)
		c.boxes[address] = b
	}
	c.mu.Unlock()
	if s.journal == nil && !known { // else it may be in other hands already
		s.mu.Lock()
		if !m.asked {
			delete(s.boxes, address)
		}
		s.mu.Unlock()
	}
	return nil
}

// captureTree gives a mailbox as its lists have it.
func (s *Store) captureTree(address string) (*captured, error) {
	t, err := s.readTree(address)
	if err != nil {
		return nil, err
	}
	st, letters, err := s.begin(t)
	if err != nil {
		return nil, err
	}
	st.read(letters)
	b := st.capture(address)
	b.files = map[*Message]string{}
	has := map[string]*treeFolder{}
	for _, f := range t.folders {
		if f.list != nil {
			has[f.list.GUID] = f
		}
	}
	for _, c := range b.folders {
		f := has[c.guid]
		for _, m := range c.messages {
			if files := f.files[m.base]; len(files) > 0 {
				b.files[m] = filepath.Join(f.dir, files[len(files)-1].file)
			}
		}
	}
	return b, nil
}

// found is a message with the file that it has at this moment, if that is known.
type found struct {
	kept
	path string // below the LUN's directory
}

// whereabouts finds messages of a mailbox.
func (s *Store) whereabouts(b *captured, c *contents, list []*Message) []found {
	s.mu.Lock()
	m := s.boxes[b.address]
	s.mu.Unlock()
	var f *Folder
	if m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		f = m.byGUID[c.guid] // nil when nothing of the mailbox is in memory
	}
	all := make([]found, len(list))
	for i, msg := range list {
		all[i] = found{kept: keptOf(msg), path: b.files[msg]}
		if f == nil {
			continue
		}
		if at, ok := f.find(msg.UID); ok && f.messages[at].base == msg.base {
			all[i].path = f.path(f.messages[at])
		}
	}
	return all
}
