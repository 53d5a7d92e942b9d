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
	mu    sync.Mutex
	mail  *store.Store
	users int
	idle  chan struct{} // closed when there are no users any more; nil: nobody waits for that
}

var _ bodies.Store = (*storeRef)(nil)

// get gives the store, nil while it is closed. It may be closed at any time.
func (s *storeRef) get() *store.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mail
}

// set changes the store at once, and returns when nobody uses the one of before.
func (s *storeRef) set(mail *store.Store) {
	s.mu.Lock()
	s.mail = mail
	var idle chan struct{}
	if s.users > 0 {
		idle = make(chan struct{})
		s.idle = idle
	}
	s.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

// use gives the store, nil while it is closed, and keeps it open until done is called.
func (s *storeRef) use() (mail *store.Store, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mail == nil {
		return nil, func() {}
	}
	s.users++
	return s.mail, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users--; s.users == 0 && s.idle != nil {
			close(s.idle)
			s.idle = nil
		}
	}
}

// TakeBody implements bodies.Store.
func (s *storeRef) TakeBody(b bodies.Body, r io.Reader) error {
	mail, done := s.use()
	defer done()
	if mail == nil {
		return errNoStore
	}
	return mail.TakeBody(store.Body(b), r)
}

// HasBody implements bodies.Store.
func (s *storeRef) HasBody(b bodies.Body) bool {
	mail, done := s.use()
	defer done()
	return mail != nil && mail.HasBody(store.Body(b))
}

// OpenBody implements bodies.Store.
func (s *storeRef) OpenBody(b bodies.Body) (*os.File, error) {
	mail, done := s.use()
	defer done()
	if mail == nil {
		return nil, errNoStore
	}
	sure := settled(mail) // before it looks
	f, err := mail.OpenBody(store.Body(b))
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
	mail, done := s.use()
	defer done()
	if mail == nil {
		return nil, 0
	}
	missing, total := mail.Missing(limit)
	for _, b := range missing {
		list = append(list, bodies.Body(b))
	}
	return list, total
}

// WriteManifest implements bodies.Store.
func (s *storeRef) WriteManifest(w io.Writer) (chain.Position, error) {
	mail, done := s.use()
	defer done()
	if mail == nil {
		return chain.Position{}, errNoStore
	}
	return mail.WriteManifest(w)
}

// Mailboxes implements bodies.Store.
func (s *storeRef) Mailboxes() []string {
	mail, done := s.use()
	defer done()
	if mail == nil {
		return nil
	}
	return mail.Mailboxes()
}

// Digest implements bodies.Store.
func (s *storeRef) Digest(mailbox string) (changed uint64, sum chain.Sum, err error) {
	mail, done := s.use()
	defer done()
	if mail == nil {
		return 0, chain.Sum{}, errNoStore
	}
	return mail.Digest(mailbox)
}
