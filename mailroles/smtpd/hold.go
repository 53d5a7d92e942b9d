package smtpd

import (
	"context"
	"errors"
	"sync"

	"anycastle/mailroles/store"
)

// errMoving is for what another replica of the LUN may do at once: whoever has it asks again by the same address.
var errMoving = reply(451, 4, 3, 2, "LUN has no active store here, try again now")

// isMoving reports whether an error of the store says that another replica is to be asked, or this one a little later.
func isMoving(err error) bool {
	for _, passing := range []error{store.ErrPassive, store.ErrAlone, store.ErrUnfit, store.ErrMissing} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// Hold lets no transaction begin: the replies to MAIL wait until release is called, or for Run's end. It returns when no
// message is on its way into the store any more, or ctx ends. One Hold is in force at a time.
func (s *Server) Hold(ctx context.Context) (release func()) {
	done := s.gate.shut()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return sync.OnceFunc(s.gate.open)
}

// gate stands before the transactions of a server.
type gate struct {
	mu      sync.Mutex
	running int           // messages on their way
	opened  chan struct{} // closed when it opens; nil while it is open
	empty   chan struct{} // closed once no message is on its way; nil while the gate is open
	over    bool          // it will not be shut any more, and nobody is let in who waits
}

// shut shuts the gate, and gives a channel that is closed once it is empty behind it.
func (g *gate) shut() (empty <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened, g.empty = make(chan struct{}), make(chan struct{})
		if g.over {
			close(g.opened)
		}
		g.settle()
	}
	return g.empty
}

// settle notes that the last message has arrived.
func (g *gate) settle() {
	if g.empty == nil || g.running > 0 {
		return
	}
	select {
	case <-g.empty:
	default:
		close(g.empty)
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil && !g.over {
		close(g.opened)
	}
	g.opened, g.empty = nil, nil
}

// end lets go of who waits, for good.
func (g *gate) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil && !g.over {
		close(g.opened)
	}
	g.over = true
}

// pass waits until the gate is open. It is false when it will not be.
func (g *gate) pass() bool {
	for {
		g.mu.Lock()
		opened, over := g.opened, g.over
		g.mu.Unlock()
		if opened == nil {
			return true
		}
		if over {
			return false
		}
		<-opened
	}
}

// begin counts a message whose body begins to come, until done is called. It may go on behind a gate that is shut, unless all
// that were on their way have arrived: then it has to wait. It is false when it waited in vain.
func (g *gate) begin() (done func(), ok bool) {
	for {
		g.mu.Lock()
		if g.opened == nil || g.running > 0 {
			g.running++
			g.mu.Unlock()
			return g.done, true
		}
		opened, over := g.opened, g.over
		g.mu.Unlock()
		if over {
			return nil, false
		}
		<-opened
	}
}

func (g *gate) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	g.settle()
}
