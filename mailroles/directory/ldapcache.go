package directory

import (
	"sync"
	"time"
)

// maxCached bounds what is remembered of known addresses, and as much of unknown ones.
const maxCached = 200_000

// cache remembers what was under an address, and which addresses are unknown.
type cache struct {
	fresh, unknownFor, staleFor time.Duration

	mu      sync.Mutex
	known   map[string]remembered
	unknown map[string]time.Time // when it was so
	stales  uint64
}

type remembered struct {
	entry *entry
	at    time.Time
	old   bool // not to be believed without asking
}

func newCache(fresh, unknownFor, staleFor time.Duration) *cache {
	return &cache{
		fresh: fresh, unknownFor: unknownFor, staleFor: staleFor,
		known: map[string]remembered{}, unknown: map[string]time.Time{},
	}
}

// get gives what was said lately: nil for an unknown address. ok is false when it must be asked for.
func (c *cache) get(key string) (e *entry, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.unknown[key]; ok && time.Since(at) < c.unknownFor {
		return nil, true
	}
	r, ok := c.known[key]
	return r.entry, ok && !r.old && time.Since(r.at) < c.fresh
}

// stale gives what was known of an address some time ago. That it was unknown then is not said: it may be there now.
func (c *cache) stale(key string) (*entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.known[key]
	if !ok || time.Since(r.at) >= c.staleFor {
		return nil, false
	}
	c.stales++
	return r.entry, true
}

// put remembers an answer; nil is unknown.
func (c *cache) put(key string, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if e == nil {
		delete(c.known, key)
		if len(c.unknown) >= maxCached {
			clear(c.unknown) // somebody guesses addresses, and it is no loss
		}
		c.unknown[key] = now
		return
	}
	delete(c.unknown, key)
	if _, ok := c.known[key]; !ok && len(c.known) >= maxCached {
		for other := range c.known {
			if delete(c.known, other); len(c.known) < maxCached*9/10 {
				break
			}
		}
	}
	c.known[key] = remembered{entry: e, at: now}
}

// expire has everything asked for again. What is known may still be stale.
func (c *cache) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.unknown)
	for key, r := range c.known {
		r.old = true
		c.known[key] = r
	}
}

// staleAnswers counts answers that were given although LDAP was away.
func (c *cache) staleAnswers() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stales
}
