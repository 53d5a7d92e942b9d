package bodies

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"anycastle/mailroles/replica/wire"
)

// lane is a connection over which bodies are pushed to a peer. It stays open while there is nothing to push.
type lane struct {
	sender *Sender
	peer   Peer
	wake   chan struct{} // of one

	mu     sync.Mutex
	away   bool // the peer cannot be reached: nothing is queued
	unsent []Body
	sent   map[Body]bool // and not confirmed
	told   Sending
}

func newLane(s *Sender, p Peer) *lane {
	return &lane{sender: s, peer: p, wake: make(chan struct{}, 1), sent: map[Body]bool{}}
}

func (l *lane) push(b Body) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away || len(l.unsent)+len(l.sent) >= maxQueue {
		l.told.Skipped++
		return
	}
	l.unsent = append(l.unsent, b)
	poke(l.wake)
}

// run keeps a connection open until ctx ends. What was not confirmed on one that broke is sent again if the peer is
// there at once; else the peer will fetch it.
func (l *lane) run(ctx context.Context) {
	opt := l.sender.opt
	log := opt.Log.With("peer", l.peer.Name)
	wait := opt.Times.Retry
	for ctx.Err() == nil {
		conn, err := opt.Net.Dial(ctx, wire.Body, l.peer.Name)
		if err == nil {
			began := time.Now()
			l.connected()
			err = l.talk(ctx, newStream(conn, opt.Times))
			if ctx.Err() != nil {
				return
			}
			l.broken(err)
			log.Info("no bodies are pushed on a connection that broke", "err", err)
			if time.Since(began) > opt.Times.Timeout {
				wait = opt.Times.Retry
				continue
			}
		} else if l.lose(err) {
			log.Info("no bodies are pushed", "err", err)
		}
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, 16*opt.Times.Retry)
	}
}

func (l *lane) connected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away, l.told.Connected, l.told.Err = false, true, ""
}

// broken takes back what was sent and not confirmed.
func (l *lane) broken(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsent = append(slices.Collect(maps.Keys(l.sent)), l.unsent...)
	clear(l.sent)
	l.told.Connected, l.told.Err = false, fmt.Sprint(err)
}

// lose drops what is queued for a peer that cannot be reached, and says whether that is new.
func (l *lane) lose(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	isNew := !l.away
	l.away, l.told.Err = true, fmt.Sprint(err)
	l.told.Skipped += uint64(len(l.unsent))
	l.unsent = nil
	return isNew
}

// talk pushes over one connection until it breaks.
func (l *lane) talk(ctx context.Context, s *stream) error {
	return s.run(ctx, s.tick,
		func(ctx context.Context) error { return l.send(ctx, s) },
		func(ctx context.Context) error { return l.hear(s) },
	)
}

// send pushes what is queued.
func (l *lane) send(ctx context.Context, s *stream) error {
	for {
		b, ok := l.next()
		if !ok {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-l.wake:
				continue
			}
		}
		if err := l.sendOne(s, b); err != nil {
			return err
		}
	}
}

func (l *lane) sendOne(s *stream, b Body) error {
	f, err := l.sender.opt.Store.OpenBody(b)
	if err != nil { // the message is gone already, or the disk fails, which others will notice
		l.settle(b, false)
		l.sender.opt.Log.Debug("body not pushed", "peer", l.peer.Name, "body", b.Name, "err", err)
		return nil
	}
	defer f.Close()
	return s.sendBody(b, f)
}

// next takes a body from the queue.
func (l *lane) next() (b Body, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unsent) == 0 {
		l.unsent = nil // and its memory
		return Body{}, false
	}
	b = l.unsent[0]
	l.unsent = l.unsent[1:]
	l.sent[b] = true // before it is sent: the confirmation may be fast
	return b, true
}

// settle notes what became of a body that was sent.
func (l *lane) settle(b Body, confirmed bool) (known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.sent[b] {
		return false
	}
	delete(l.sent, b)
	if confirmed {
		l.told.Sent++
	} else {
		l.told.Skipped++
	}
	return true
}

// hear reads confirmations.
func (l *lane) hear(s *stream) error {
	for {
		kind, payload, err := s.read()
		if err != nil {
			return fmt.Errorf("hear from %s: %w", l.peer.Name, err)
		}
		switch kind {
		case frameAck:
			b, err := parseBody(payload)
			if err != nil {
				return err
			}
			if l.settle(b, true) {
				l.sender.confirmed(b, l.peer.Name)
			}
		case frameNo:
			no, err := parse[refusal](payload)
			if err != nil {
				return err
			}
			l.settle(no.Body, false)
			l.sender.opt.Log.Debug("body refused", "peer", l.peer.Name, "body", no.Body.Name, "why", no.Why)
		default:
			return fmt.Errorf("%w: frame %q for a sender", errProtocol, kind)
		}
	}
}

func (l *lane) status() Sending {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.told
	st.Queued = len(l.unsent) + len(l.sent)
	return st
}
