package bodies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"anycastle/mailroles/replica/wire"
)

// window is how many bodies are asked for before the first has come. It is less than maxAsked.
const window = 16

// outcome is what became of a body that a peer was asked for.
type outcome struct {
	body Body
	err  error // nil: the store has it; errGone: the peer does not, for certain
}

// patience is how many times the timeout a peer may take to find a body.
const patience = 4

var errStuck = errors.New("bodies: the peer is there and does not answer")

var errGone = errors.New("bodies: the peer does not have it")

// fetch asks one peer for bodies, and gives what became of each, in any order. paid is asked before each.
func (f *Fetcher) fetch(ctx context.Context, peer string, list []Body, paid func(context.Context, Body) error) []outcome {
	x := &errand{peer: peer, list: list, asked: make(chan Body, window), results: map[Body]error{}, got: f.got}
	conn, err := f.opt.Net.Dial(ctx, wire.Body, peer)
	if err == nil {
		s := newStream(conn, f.opt.Times)
		err = s.run(ctx, s.tick,
			func(ctx context.Context) error { return x.watch(ctx, patience*f.opt.Times.Timeout) },
			func(ctx context.Context) error { return x.ask(ctx, s, paid) },
			func(ctx context.Context) error { return x.hear(ctx, s, newIntake(ctx, f.opt.Store, f.slots)) },
		)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = errEnded
	}
	return x.outcomes(err)
}

// errand is one connection of a Fetcher.
type errand struct {
	peer  string
	list  []Body
	asked chan Body  // and not answered, in order; as many as the window
	got   func(Body) // told of each body as soon as the store has it

	mu      sync.Mutex
	results map[Body]error
	waiting int       // bodies asked for whose answers have not come to their ends
	moved   time.Time // when one was asked for while none was, or some of an answer came
}

// ask asks for all, as far as the window allows, and returns when the connection ends.
func (x *errand) ask(ctx context.Context, s *stream, paid func(context.Context, Body) error) error {
	for _, b := range x.list {
		if err := paid(ctx, b); err != nil {
			return err
		}
		select {
		case x.asked <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
		x.move(1)
		if err := s.send(frameGet, b, true); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// hear takes the answers, which come in the order of the questions, and returns when there is one for each.
func (x *errand) hear(ctx context.Context, s *stream, in *intake) error {
	defer in.wait()
	for answered := 0; answered < len(x.list); {
		kind, payload, err := s.read()
		if err != nil {
			return err
		}
		switch kind {
		case frameBody:
			err = x.begin(s, in, payload)
		case frameData:
			x.move(0)
			err = in.data(payload)
		case frameEnd, frameAbort:
			err = in.end(kind == frameEnd)
			answered++
			x.move(-1)
		case frameNo:
			err = x.refused(payload)
			answered++
			x.move(-1)
		default:
			err = fmt.Errorf("%w: frame %q for a fetcher", errProtocol, kind)
		}
		if err != nil {
			return err
		}
	}
	in.wait() // before the connection ends, and its context
	return nil
}

// move notes that something happened, and how many more answers are waited for.
func (x *errand) move(more int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if more <= 0 || x.waiting == 0 {
		x.moved = time.Now()
	}
	x.waiting += more
}

// watch ends the connection to a peer that is alive and does not answer: its disk may hang.
func (x *errand) watch(ctx context.Context, most time.Duration) error {
	for pause(ctx, most/4) {
		x.mu.Lock()
		stuck := x.waiting > 0 && time.Since(x.moved) > most
		x.mu.Unlock()
		if stuck {
			return errStuck
		}
	}
	return ctx.Err()
}

// next checks that an answer is for the body whose turn it is.
func (x *errand) next(b Body) error {
	select {
	case asked := <-x.asked:
		if asked != b {
			return fmt.Errorf("%w: an answer for %+v, not for %+v", errProtocol, b, asked)
		}
		return nil
	default:
		return fmt.Errorf("%w: an answer for %s, which was not asked for", errProtocol, b.Name)
	}
}

func (x *errand) begin(s *stream, in *intake, payload []byte) error {
	b, err := parseBody(payload)
	if err == nil {
		err = x.next(b)
	}
	if err != nil {
		return err
	}
	return in.begin(b, func(err error) {
		x.note(b, err)
		if err == nil { // the peer may wait for it to be here; whoever reads notices that the connection broke
			_ = s.send(frameAck, b, true)
		}
	})
}

func (x *errand) refused(payload []byte) error {
	no, err := parse[refusal](payload)
	if err != nil {
		return err
	}
	if err := x.next(no.Body); err != nil {
		return err
	}
	if no.Gone {
		x.note(no.Body, errGone)
	} else {
		x.note(no.Body, fmt.Errorf("%s: %q", x.peer, no.Why))
	}
	return nil
}

func (x *errand) note(b Body, err error) {
	if err == nil {
		x.got(b)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.results[b] = err
}

// outcomes gives what became of each body; of those without an answer err did.
func (x *errand) outcomes(err error) []outcome {
	x.mu.Lock()
	defer x.mu.Unlock()
	list := make([]outcome, 0, len(x.list))
	for _, b := range x.list {
		was, ok := x.results[b]
		if !ok {
			was = fmt.Errorf("fetch from %s: %w", x.peer, err)
		}
		list = append(list, outcome{b, was})
	}
	return list
}
