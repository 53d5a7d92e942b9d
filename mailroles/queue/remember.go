package queue

import (
	"crypto/sha256"
	"time"
)

// memory knows which recipients have a transaction already, or are about to. The caller holds the queue's lock.
type memory map[memoryKey]memorised

type memoryKey [16]byte

// memorised is the entry that has a recipient; an empty id: somebody is writing it just now.
type memorised struct{ id string }

// maxMemory bounds the recipients that are remembered of entries that are done.
const maxMemory = 500_000

// keyOf names a recipient of a transaction. The id of a transaction does not depend on its recipients, because those of one
// message may come in several.
func keyOf(tx, address string) memoryKey {
	sum := sha256.Sum256([]byte(tx + "\x00" + address))
	return memoryKey(sum[:16])
}

// learn remembers recipients of an entry: all of one in the queue, and of one that is over those who got the message. Who sends
// it again to one of the others means that.
func (m memory) learn(e *entry, over bool) {
	if e.Tx == "" {
		return
	}
	for _, l := range e.Legs {
		for _, r := range l.Recipients {
			if !over || r.State == Delivered || r.State == Relayed {
				m[keyOf(e.Tx, r.Address)] = memorised{e.ID}
			}
		}
	}
}

// forget is the opposite, for all recipients. One that another entry has too stays.
func (m memory) forget(e *entry) {
	if e.Tx == "" {
		return
	}
	for _, l := range e.Legs {
		for _, r := range l.Recipients {
			if key := keyOf(e.Tx, r.Address); m[key].id == e.ID {
				delete(m, key)
			}
		}
	}
}

// record is an entry that is done and remembered.
type record struct {
	entry *entry
	since time.Time
}
