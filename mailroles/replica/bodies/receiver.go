package bodies

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"anycastle/mailroles/replica/wire"
	"anycastle/mailroles/store"
)

// maxAsked is how many bodies a peer may ask for before it has got the first.
const maxAsked = 64

// Receiver takes the bodies that peers push, and gives those that they ask for.
type Receiver struct {
	opt   Options
	taken func(Body)
	slots chan struct{}
	given func(b Body, peer string) // told of bodies that peers got here and have on disk

	mu     sync.Mutex
	coming map[string]int // how many connections bring a body, by name
}

// NewReceiver makes a receiver. Run must run for it to do anything. taken is told of each body that is on disk now, before
// the peer is; nil: nobody is.
func NewReceiver(opt Options, taken func(Body)) *Receiver {
	if taken == nil {
		taken = func(Body) {}
	}
	return &Receiver{opt: opt.complete(), taken: taken, slots: make(chan struct{}, maxTaking), given: func(Body, string) {}, coming: map[string]int{}}
}

// Join has the sender know which bodies that it pushed were fetched here instead, and the fetcher leave alone what is being
// pushed here. It must come before Run, of the fetcher too.
func (r *Receiver) Join(s *Sender, f *Fetcher) {
	r.given = s.confirmed
	f.coming = r.isComing
}

// isComing says whether a body is being pushed here at the moment.
func (r *Receiver) isComing(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.coming[name] > 0
}

func (r *Receiver) begins(b Body) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.coming[b.Name]++
}

func (r *Receiver) ends(b Body) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.coming[b.Name]--; r.coming[b.Name] == 0 {
		delete(r.coming, b.Name)
	}
}

// Run serves until ctx ends.
func (r *Receiver) Run(ctx context.Context) error {
	return serveEach(ctx, r.opt, wire.Body, r.serve)
}

func (r *Receiver) serve(ctx context.Context, s *stream) error {
	asked := make(chan Body, maxAsked)
	in := newIntake(ctx, r.opt.Store, r.slots)
	return s.run(ctx, s.tick,
		func(ctx context.Context) error { return in.watch(ctx, patience*r.opt.Times.Timeout) },
		func(ctx context.Context) error { return r.read(ctx, s, in, asked) },
		func(ctx context.Context) error { return r.give(ctx, s, asked) },
	)
}

// read takes what is pushed, and notes what is asked for.
func (r *Receiver) read(ctx context.Context, s *stream, in *intake, asked chan<- Body) error {
	in.ctx = ctx
	defer in.wait()
	for {
		kind, payload, err := s.read()
		if err != nil {
			return err
		}
		switch kind {
		case frameData:
			err = in.data(payload)
		case frameEnd, frameAbort:
			err = in.end(kind == frameEnd)
		case frameBody, frameGet, frameAck:
			var b Body
			if b, err = parseBody(payload); err == nil {
				err = r.about(s, kind, b, in, asked)
			}
		default:
			err = fmt.Errorf("%w: frame %q for a receiver", errProtocol, kind)
		}
		if err != nil {
			return err
		}
	}
}

// about does what a frame says about a body.
func (r *Receiver) about(s *stream, kind byte, b Body, in *intake, asked chan<- Body) error {
	switch kind {
	case frameBody:
		if err := in.free(); err != nil {
			return err
		}
		r.begins(b)
		return in.begin(b, func(err error) {
			r.ends(b)
			r.answer(s, b, err)
		})
	case frameGet:
		select {
		case asked <- b:
		default:
			return fmt.Errorf("%w: more than %d bodies asked for", errProtocol, maxAsked)
		}
	default:
		r.given(b, s.peer)
	}
	return nil
}

// answer confirms a body that is on disk.
func (r *Receiver) answer(s *stream, b Body, err error) {
	if err == nil {
		r.taken(b)
		err = s.send(frameAck, b, true)
	} else {
		r.opt.Log.Debug("body not taken", "peer", s.peer, "body", b.Name, "err", err)
		err = s.send(frameNo, refusal{Body: b, Why: err.Error()}, true)
	}
	if err != nil {
		s.conn.Close() // whoever reads it ends
	}
}

// give sends what is asked for, in that order.
func (r *Receiver) give(ctx context.Context, s *stream, asked <-chan Body) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b := <-asked:
			if err := r.giveOne(s, b); err != nil {
				return err
			}
		}
	}
}

func (r *Receiver) giveOne(s *stream, b Body) error {
	f, err := r.opt.Store.OpenBody(b)
	if err != nil {
		gone := errors.Is(err, store.ErrNoMessage)
		return s.send(frameNo, refusal{Body: b, Why: err.Error(), Gone: gone}, true)
	}
	defer f.Close()
	return s.sendBody(b, f)
}
