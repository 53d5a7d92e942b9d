package bodies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"anycastle/mailroles/store"
)

const (
	maxGets = 16                     // calls of Get that are served at a time
	hedge   = 200 * time.Millisecond // without an answer, until the next peer is asked too
)

// Get fetches one body at once, from whoever has it, without regard to Rate, and returns when the store has taken it, even
// if it had it. The error is store.ErrNoMessage if all peers answered that they do not have it.
func (f *Fetcher) Get(ctx context.Context, b Body) error {
	for ctx.Err() == nil {
		f.mu.Lock()
		other := f.flights[b]
		own := &flight{ended: make(chan struct{})}
		if other == nil {
			f.flights[b] = own
		}
		f.mu.Unlock()
		if other == nil {
			own.err = f.get(ctx, b)
			own.givenUp = own.err != nil && ctx.Err() != nil
			f.mu.Lock()
			delete(f.flights, b)
			f.mu.Unlock()
			close(own.ended)
			return own.wrap(b)
		}
		select {
		case <-other.ended:
			if !other.givenUp { // else this call goes on in its place
				return other.wrap(b)
			}
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("fetch body %s: %w", b.Name, ctx.Err())
}

// flight is a call of Get that others for the same body wait for.
type flight struct {
	ended   chan struct{}
	err     error // this and the next are valid once ended
	givenUp bool  // its caller did not want it any more
}

func (f *flight) wrap(b Body) error {
	if f.err == nil {
		return nil
	}
	return fmt.Errorf("fetch body %s: %w", b.Name, f.err)
}

// get asks one peer after the other. One that hangs is not waited for.
func (f *Fetcher) get(ctx context.Context, b Body) error {
	select {
	case f.gets <- struct{}{}:
		defer func() { <-f.gets }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	left := f.opt.names()
	answers := make(chan error, len(left))
	underway, elsewhere := 0, 0 // answers to come, and those that do not rule out that the peer has it
	var errs []error
	for len(left) > 0 || underway > 0 {
		var next <-chan time.Time
		if len(left) > 0 {
			peer := left[0]
			left = left[1:]
			underway++
			asking.Go(func() {
				answers <- f.fetch(ctx, peer, []Body{b}, func(context.Context, Body) error { return nil })[0].err
			})
		}
		if len(left) > 0 {
			next = time.After(hedge)
		}
		select {
		case err := <-answers:
			underway--
			if err == nil {
				return nil
			}
			if !errors.Is(err, errGone) {
				elsewhere++
			}
			errs = append(errs, err)
		case <-next:
		case <-ctx.Done():
			return errors.Join(append(errs, ctx.Err())...)
		}
	}
	if err := ctx.Err(); err != nil {
		return errors.Join(append(errs, err)...)
	}
	if elsewhere == 0 && len(errs) > 0 {
		return store.ErrNoMessage
	}
	return errors.Join(append(errs, errNobody)...)
}

var errNobody = errors.New("bodies: nobody could give it")
