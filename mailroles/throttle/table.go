package throttle

import "container/list"

// room is how many entries each table has: a few megabytes. Who wants to be forgotten has to fail from so many sources first.
const room = 32 << 10

// table is a map that forgets the entry that was unused for longest when it is full. The zero table is ready.
type table[K comparable, V any] struct {
	entries map[K]*list.Element
	order   list.List // of *entry[K, V]; the one that was used last is in front
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// get finds an entry, or makes one with the zero value.
func (t *table[K, V]) get(key K) *V {
	if e, ok := t.entries[key]; ok {
		t.order.MoveToFront(e)
		return &e.Value.(*entry[K, V]).value
	}
	if t.entries == nil {
		t.entries = map[K]*list.Element{}
	}
	if len(t.entries) >= room {
		last := t.order.Back()
		t.order.Remove(last)
		delete(t.entries, last.Value.(*entry[K, V]).key)
	}
	e := &entry[K, V]{key: key}
	t.entries[key] = t.order.PushFront(e)
	return &e.value
}

// find finds an entry, if there is one.
func (t *table[K, V]) find(key K) (value V, ok bool) {
	e, ok := t.entries[key]
	if !ok {
		return value, false
	}
	t.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

// remove forgets an entry.
func (t *table[K, V]) remove(key K) {
	if e, ok := t.entries[key]; ok {
		t.order.Remove(e)
		delete(t.entries, key)
	}
}
