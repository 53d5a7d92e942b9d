package replica

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"anycastle/mailroles/replica/bodies"
	"anycastle/mailroles/replica/chain"
	"anycastle/mailroles/store"
)

// storeRef is the store of a replica, which may be closed and opened again. Whoever uses it for the other replicas keeps it
// open meanwhile.
type storeRef struct {
	mu   sync.RWMutex
	mail *store.Store
}

var _ bodies.Store = (*storeRef)(nil)

// get gives the store, nil while it is closed. It may be closed at any time.
func (s *storeRef) get() *store.Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mail
}

// set waits until nobody uses the store of before.
func (s *storeRef) set(mail *store.Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mail = mail
}

// TakeBody implements bodies.Store.
func (s *storeRef) TakeBody(b bodies.Body, r io.Reader) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mail == nil {
		return errNoStore
	}
	return s.mail.TakeBody(store.Body(b), r)
}

// HasBody implements bodies.Store.
func (s *storeRef) HasBody(b bodies.Body) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mail != nil && s.mail.HasBody(store.Body(b))
}

// OpenBody implements bodies.Store.
func (s *storeRef) OpenBody(b bodies.Body) (*os.File, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mail == nil {
		return nil, errNoStore
	}
	sure := settled(s.mail) // before it looks
	f, err := s.mail.OpenBody(store.Body(b))
	if errors.Is(err, store.ErrNoMessage) && !sure {
		return nil, fmt.Errorf("%w: %s of %s was not found yet", errUnsettled, b.Name, b.Mailbox)
	}
	return f, err
}

// errUnsettled is when the store does not know yet what it has: that a body is not found is no word to give it up for.
var errUnsettled = errors.New("replica: the store has not done all operations of before its start")

func settled(mail *store.Store) bool {
	select {
	case <-mail.Settled():
		return true
	default:
		return false
	}
}

// Missing implements bodies.Store.
func (s *storeRef) Missing(limit int) (list []bodies.Body, total int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mail == nil {
		return nil, 0
	}
	missing, total := s.mail.Missing(limit)
	for _, b := range missing {
		list = append(list, bodies.Body(b))
	}
	return list, total
}

// WriteManifest implements bodies.Store.
func (s *storeRef) WriteManifest(w io.Writer) (chain.Position, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mail == nil {
		return chain.Position{}, errNoStore
	}
	return s.mail.WriteManifest(w)
}

// Mailboxes implements bodies.Store.
func (s *storeRef) Mailboxes() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mail == nil {
		return nil
	}
	return s.mail.Mailboxes()
}

// Digest implements bodies.Store.
func (s *storeRef) Digest(mailbox string) (changed uint64, sum chain.Sum, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mail == nil {
		return 0, chain.Sum{}, errNoStore
	}
	return s.mail.Digest(mailbox)
}
