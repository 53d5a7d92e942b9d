package group

import (
	"sync"
	"time"
)

// peers is what a leader knows of the other members from their answers.
type peers struct {
	mu    sync.Mutex
	term  uint64
	known map[string]*peer
	bell  chan struct{} // closed at the next change
}

type peer struct {
	matched uint64  // in the term
	sent    instant // when the newest request that was answered in the term was sent; 0: none
	down    bool    // the last attempt to reach it failed
	up      chan struct{}
	contact time.Time // whenever it was last heard of, for people
}

func newPeers() *peers { return &peers{known: map[string]*peer{}, bell: make(chan struct{})} }

// get gives the peer of a name. The lock is held.
func (p *peers) get(name string) *peer {
	k, ok := p.known[name]
	if !ok {
		k = &peer{up: make(chan struct{})}
		p.known[name] = k
	}
	return k
}

// begin forgets what was known from older terms. The lock is held.
func (p *peers) begin(term uint64) bool {
	if term > p.term {
		p.term = term
		for _, k := range p.known {
			k.matched, k.sent = 0, 0
		}
	}
	return term == p.term
}

// ring wakes all who wait for a change. The lock is held.
func (p *peers) ring() {
	close(p.bell)
	p.bell = make(chan struct{})
}

// moved wakes all who wait for a change.
func (p *peers) moved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ring()
}

func (p *peers) waiter() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bell
}

// answered notes that a member accepted what this one sent as leader of a term, and has the log up to an index, 0 if
// that is not known.
func (p *peers) answered(name string, term uint64, sent instant, matched uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.get(name)
	k.contact = time.Now()
	if !p.begin(term) {
		return
	}
	k.sent = max(k.sent, sent)
	if matched > k.matched {
		k.matched = matched
		p.ring()
	}
}

// reached notes whether a member could be reached, and says whether that is new.
func (p *peers) reached(name string, ok bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.get(name)
	isNew := k.down == ok
	if ok && k.down {
		close(k.up)
		k.up = make(chan struct{})
	}
	k.down = !ok
	return isNew
}

// allUp says whether the last attempt to reach each member went well.
func (p *peers) allUp() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.known {
		if k.down {
			return false
		}
	}
	return true
}

// unreachable gives nil, or what is closed when a member can be reached again.
func (p *peers) unreachable(name string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.get(name); k.down {
		return k.up
	}
	return nil
}

// heard notes that a member sent something.
func (p *peers) heard(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.get(name).contact = time.Now()
}

// forget makes a member one of which nothing is known.
func (p *peers) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.get(name)
	k.matched, k.sent = 0, 0
	p.ring()
}

// matched gives how far a member is in a term.
func (p *peers) matched(name string, term uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, ok := p.known[name]; ok && p.term == term {
		return k.matched
	}
	return 0
}

// recent counts those of some members who answered what was sent in a term within a time.
func (p *peers) recent(names []string, term uint64, within time.Duration) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.term != term {
		return 0
	}
	now, n := bootTime(), 0
	for _, name := range names {
		if k, ok := p.known[name]; ok && k.sent > 0 && now.since(k.sent) < within {
			n++
		}
	}
	return n
}

func (p *peers) contact(name string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, ok := p.known[name]; ok {
		return k.contact
	}
	return time.Time{}
}
