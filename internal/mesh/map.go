package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// The bounds of a Map, whatever peers send.
const (
	MaxKey     = 512     // bytes of a key
	MaxSize    = 1200    // bytes of a key and its value together: a change fits one packet
	MaxEntries = 1 << 14 // keys, tombstones among them

	TombstoneLife = 30 * 24 * time.Hour // how long a deleted key is remembered
	MaxAhead      = time.Hour           // a change stamped further ahead of this machine's clock is not taken from a peer

	maxBytes   = 4 << 20 // all entries together, on the wire; see put
	sweepEvery = time.Hour
)

// ErrFull says that the map takes no more: Delete what is no longer needed.
var ErrFull = errors.New("the map is full")

// Map is a small map that members of a mesh have in common: the last writer of a key wins. It is safe for concurrent
// use.
type Map struct {
	log *slog.Logger
	now func() time.Time

	saving sync.Mutex // one Save at a time; taken before mu

	mu         sync.Mutex
	clock      clock
	entries    map[string]entry
	bytes      int // the sum of the entries' sizes
	tombstones int
	swept      int64 // when expired tombstones were last looked for, ms
	watchers   map[chan struct{}]bool
	send       func(entry) // hands a change to the mesh; nil while there is none
}

// Item is one key of a snapshot.
type Item struct {
	Key   string
	Value []byte
	By    string    // the member that set it
	At    time.Time // when, by that member's clock
}

// NewMap makes an empty map. node is the name that this member's changes carry; see Config.NodeName. A nil log discards.
func NewMap(node string, log *slog.Logger) *Map {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Map{
		log: log, now: time.Now, clock: clock{node: node},
		entries: map[string]entry{}, watchers: map[chan struct{}]bool{},
	}
}

// Set sets a key and tells the other members. A value that the key has already changes nothing.
func (m *Map) Set(key string, value []byte) error {
	if !validKey(key) {
		return fmt.Errorf("%.40q is no key: 1 to %d bytes of text", key, MaxKey)
	}
	if n := len(key) + len(value); n > MaxSize {
		return fmt.Errorf("key %q and its value have %d bytes; at most %d", key, n, MaxSize)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.entries[key]; ok && !old.deleted && old.value == string(value) {
		return nil
	}
	m.sweep()
	e := entry{key: key, value: string(value), stamp: m.clock.next(m.now().UnixMilli())}
	if !m.put(e) {
		return fmt.Errorf("set %q: %w", key, ErrFull)
	}
	m.publish(e)
	return nil
}

// Delete takes a key out and tells the other members. It says whether there was such a key.
func (m *Map) Delete(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.entries[key]; !ok || old.deleted {
		return false
	}
	m.sweep()
	e := entry{key: key, deleted: true, stamp: m.clock.next(m.now().UnixMilli())}
	m.put(e)
	m.publish(e)
	return true
}

// Get gives a key's value.
func (m *Map) Get(key string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[key]
	if !ok || e.deleted {
		return nil, false
	}
	return []byte(e.value), true
}

// Snapshot gives all keys, in ascending order. The caller owns it.
func (m *Map) Snapshot() []Item {
	m.mu.Lock()
	items := make([]Item, 0, len(m.entries)-m.tombstones)
	for _, e := range m.entries {
		if !e.deleted {
			items = append(items, Item{e.key, []byte(e.value), e.stamp.node, time.UnixMilli(e.stamp.wall)})
		}
	}
	m.mu.Unlock()
	slices.SortFunc(items, func(a, b Item) int { return cmp.Compare(a.Key, b.Key) })
	return items
}

// Watch gives a channel that is ready after every change, own ones and those of other members, until stop is called.
// Changes while the channel is ready already are not counted: take a Snapshot and compare.
func (m *Map) Watch() (changed <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers[ch] = true
	return ch, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, ch)
	}
}

// attach makes send get every change that others are to be told of, from here on; nil ends that. send runs with the map
// locked.
func (m *Map) attach(send func(entry)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.send = send
}

// publish tells the mesh and the watchers of an own change. mu is held.
func (m *Map) publish(e entry) {
	if m.send != nil {
		m.send(e)
	}
	m.wake()
}

// wake tells the watchers of a change. mu is held.
func (m *Map) wake() {
	for ch := range m.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// merged counts what became of a peer's entries.
type merged struct {
	taken int
	ahead []entry // those from too far in the future
	full  int     // those for which there was no room
}

// merge takes what is newer than ours, and tells the mesh of it if relay is set.
func (m *Map) merge(es []entry, relay bool) merged {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep()
	now := m.now()
	var did merged
	for _, e := range es {
		old, known := m.entries[e.key]
		switch {
		case e.stamp.wall > now.Add(MaxAhead).UnixMilli():
			did.ahead = append(did.ahead, e)
			continue
		case known && e.compare(old) <= 0:
			continue
		case !known && m.expired(e):
			continue // we have forgotten it already
		case !m.put(e):
			did.full++
			continue
		}
		m.clock.observe(e.stamp)
		did.taken++
		if relay && m.send != nil {
			m.send(e)
		}
	}
	if did.taken > 0 {
		m.wake()
	}
	return did
}

// put stores an entry if there is room for it. mu is held. The tombstone of a key that is there always has room: a full
// map must not keep a key from going, and the tombstone is larger at most by one member's name over another's.
func (m *Map) put(e entry) bool {
	old, known := m.entries[e.key]
	if !known && len(m.entries) >= MaxEntries {
		return false
	}
	grown := e.size()
	if known {
		grown -= old.size()
	}
	if grown > 0 && m.bytes+grown > maxBytes && (!known || !e.deleted) {
		return false
	}
	m.remove(e.key)
	m.entries[e.key] = e
	m.bytes += e.size()
	if e.deleted {
		m.tombstones++
	}
	return true
}

func (m *Map) remove(key string) {
	old, known := m.entries[key]
	if !known {
		return
	}
	delete(m.entries, key)
	m.bytes -= old.size()
	if old.deleted {
		m.tombstones--
	}
}

func (m *Map) expired(e entry) bool {
	return e.deleted && e.stamp.wall < m.now().Add(-TombstoneLife).UnixMilli()
}

// sweep forgets old tombstones, once an hour. mu is held.
func (m *Map) sweep() {
	now := m.now().UnixMilli()
	if m.tombstones == 0 || now >= m.swept && now < m.swept+sweepEvery.Milliseconds() {
		return
	}
	m.swept = now
	for key, e := range m.entries {
		if m.expired(e) {
			m.remove(key)
		}
	}
}

// counts gives the numbers of live keys and of tombstones.
func (m *Map) counts() (live, tombstones int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries) - m.tombstones, m.tombstones
}

// encode gives the whole map as a message.
func (m *Map) encode() []byte {
	m.mu.Lock()
	m.sweep()
	es := slices.Collect(maps.Values(m.entries))
	m.mu.Unlock()
	slices.SortFunc(es, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	return encodeEntries(es)
}
