package bodies

import (
	"context"
	"fmt"
	"sync"
	"time"

	"anycastle/mailroles/replica/wire"
)

// leastGap is the least time between two states that are told to one peer.
const leastGap = 2 * time.Millisecond

// State is how far a replica is, in its own words.
type State struct {
	Applied  uint64 `json:"applied"`  // index of the last operation that was applied
	Complete uint64 `json:"complete"` // bodies of all operations up to here are on its disk
	Chain    string `json:"chain,omitempty"`
	Term     uint64 `json:"term,omitempty"`
	Era      uint64 `json:"era,omitempty"`    // of the group: indexes of one era say nothing in another
	Active   bool   `json:"active,omitempty"` // it is the active store
	Blank    bool   `json:"blank,omitempty"`  // it has nothing yet
	Fit      bool   `json:"fit"`              // its disk works and has room
	Why      string `json:"why,omitempty"`    // it is not fit
	Free     uint64 `json:"free"`             // octets
	Missing  int    `json:"missing"`          // bodies that it waits for
}

// View is what is known of a peer.
type View struct {
	Peer
	State     State     // the last that was heard
	Known     bool      // there is one
	Connected bool      // at this moment
	Heard     time.Time // it was alive then for certain: a state sent from here at that time has been answered
}

// Exchange tells all peers the state of this replica, at once when it changes, and hears theirs. It is safe for concurrent
// use.
type Exchange struct {
	opt   Options
	local func() State
	moved signal
	base  time.Time // of the clock that is sent
	peers map[string]*party
}

// party is a peer in an exchange.
type party struct {
	wake chan struct{} // of one: what to tell may have changed

	mu   sync.Mutex
	view View
	live *stream // the connection in use
}

// NewExchange makes an exchange. local gives the state of this replica, and is asked often and concurrently. Run must run.
func NewExchange(opt Options, local func() State) *Exchange {
	e := &Exchange{opt: opt.complete(), local: local, base: time.Now(), peers: map[string]*party{}}
	for _, p := range e.opt.Peers {
		e.peers[p.Name] = &party{wake: make(chan struct{}, 1), view: View{Peer: p}}
	}
	return e
}

// Run tells and hears until ctx ends. Of two replicas the one whose name sorts first dials.
func (e *Exchange) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for name, p := range e.peers {
		if e.opt.Self.Name < name {
			wg.Go(func() { e.dial(ctx, name, p) })
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case conn := <-e.opt.Net.Accept(wire.State):
			p := e.peers[wire.Peer(conn)]
			if p == nil {
				e.opt.Log.Warn("no mail replica wants to tell its state", "peer", wire.Peer(conn))
				conn.Close()
				continue
			}
			wg.Go(func() { e.talk(ctx, newStream(conn, e.opt.Times), p) })
		}
	}
}

// Poke says that the state of this replica may have changed. It does not block.
func (e *Exchange) Poke() {
	for _, p := range e.peers {
		poke(p.wake)
	}
}

// View gives what is known of a peer.
func (e *Exchange) View(name string) View {
	p := e.peers[name]
	if p == nil {
		return View{Peer: Peer{Name: name}}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

// Views gives what is known of all peers, in the order of the options.
func (e *Exchange) Views() []View {
	var list []View
	for _, p := range e.opt.Peers {
		list = append(list, e.View(p.Name))
	}
	return list
}

// Changed gives a channel that is closed at the next change of a view other than its Heard. Take it before asking.
func (e *Exchange) Changed() <-chan struct{} { return e.moved.next() }

// dial keeps a connection to a peer open.
func (e *Exchange) dial(ctx context.Context, name string, p *party) {
	wait := e.opt.Times.Retry
	for ctx.Err() == nil {
		began := time.Now()
		conn, err := e.opt.Net.Dial(ctx, wire.State, name)
		if err == nil {
			e.talk(ctx, newStream(conn, e.opt.Times), p)
			if time.Since(began) > e.opt.Times.Timeout {
				wait = e.opt.Times.Retry
			}
		} else {
			e.opt.Log.Debug("no state told", "peer", name, "err", err)
		}
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, 4*e.opt.Times.Retry) // whether it is there decides whether mail is taken: ask often
	}
}

// session is one connection of an exchange.
type session struct {
	*stream
	began int64 // by the clock that is sent

	mu     sync.Mutex
	latest int64 // At of the last that was heard
}

// talk tells and hears over one connection until it breaks. The newest connection counts: the one before is closed.
func (e *Exchange) talk(ctx context.Context, s *stream, p *party) {
	p.mu.Lock()
	before := p.live
	p.live, p.view.Connected = s, true
	name := p.view.Name
	p.mu.Unlock()
	if before != nil {
		before.conn.Close()
	}
	e.moved.wake()
	e.opt.Log.Info("states are exchanged", "peer", name)
	now := &session{stream: s, began: e.now()}
	err := s.run(ctx,
		func(ctx context.Context) error { return e.tell(ctx, now, p) },
		func(context.Context) error { return e.hear(now, p) },
	)
	p.mu.Lock()
	if p.live == s {
		p.live, p.view.Connected = nil, false
	}
	p.mu.Unlock()
	e.moved.wake()
	if ctx.Err() == nil {
		e.opt.Log.Info("states are not exchanged any more", "peer", name, "err", err)
	}
}

func (e *Exchange) now() int64 { return int64(time.Since(e.base)) + 1 } // 0 is none

// tell sends the state when it has changed, and from time to time.
func (e *Exchange) tell(ctx context.Context, s *session, p *party) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last State
	var sent time.Time
	for due := true; ; {
		asked := time.Now()
		state := e.local()
		gap := max(leastGap, min(10*time.Since(asked), e.opt.Times.State)) // a state that costs much is not asked for often
		if due || state != last {
			last, sent = state, asked
			s.mu.Lock()
			t := told{State: state, At: e.now(), Echo: s.latest}
			s.mu.Unlock()
			if err := s.send(frameState, t, true); err != nil {
				return err
			}
		}
		timer.Reset(e.opt.Times.wait(e.opt.Times.State))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			due = true
		case <-p.wake:
			if !pause(ctx, gap-time.Since(asked)) { // what changes meanwhile is told together
				return ctx.Err()
			}
			due = time.Since(sent) >= e.opt.Times.State
		}
	}
}

// hear notes what the peer tells.
func (e *Exchange) hear(s *session, p *party) error {
	for {
		kind, payload, err := s.read()
		if err != nil {
			return err
		}
		if kind != frameState {
			return fmt.Errorf("%w: frame %q in an exchange", errProtocol, kind)
		}
		t, err := parse[told](payload)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.latest = t.At
		s.mu.Unlock()
		if e.note(s, p, t) {
			e.moved.wake()
		}
	}
}

// note says whether the peer's view is another one now.
func (e *Exchange) note(s *session, p *party, t told) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live != s.stream {
		return false // a newer connection tells
	}
	if t.Echo >= s.began && t.Echo <= e.now() { // else it is none of this connection's
		p.view.Heard = e.base.Add(time.Duration(t.Echo - 1))
	}
	changed = !p.view.Known || p.view.State != t.State
	p.view.State, p.view.Known = t.State, true
	return changed
}
