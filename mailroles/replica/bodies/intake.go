package bodies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxSmall  = 128 << 10 // octets of a body that is held in memory until it is complete
	maxTaking = 64        // bodies from peers that the store is taking
)

var errShort = errors.New("bodies: the peer could not send it to its end")

// intake hands bodies that come in over one connection to the store. While one is made durable the next ones are read:
// those that wait share the fsyncs of the file system. One goroutine feeds it; wait must be called at the end.
type intake struct {
	ctx   context.Context // of the connection: an environment for its time
	store Store
	slots chan struct{} // shared with other connections: as many bodies are taken at a time
	wg    sync.WaitGroup

	body  Body
	done  func(error) // of the body that is being read; nil: none is
	small []byte
	pipe  *io.PipeWriter // nil: the body is small
	left  int64

	moved atomic.Int64 // when some of the body that is being read came, by clock; 0: none is
	clock time.Time
}

func newIntake(ctx context.Context, store Store, slots chan struct{}) *intake {
	return &intake{ctx: ctx, store: store, slots: slots, clock: time.Now()}
}

// begin is for the frame that announces a body. done is called once with what became of it, by another goroutine or this.
func (in *intake) begin(b Body, done func(error)) error {
	if err := in.free(); err != nil {
		return err
	}
	in.body, in.done, in.left, in.pipe, in.small = b, done, b.Size, nil, nil
	in.move()
	if b.Size <= maxSmall {
		in.small = make([]byte, 0, b.Size)
		return nil
	}
	pr, pw := io.Pipe()
	in.pipe = pw
	return in.take(pr, func(err error) {
		pr.CloseWithError(errTaken) // what is left is read for nothing
		done(err)
	})
}

// free says whether a body may begin.
func (in *intake) free() error {
	if in.done != nil {
		return fmt.Errorf("%w: a body comes within another, %s", errProtocol, in.body.Name)
	}
	return nil
}

// errTaken is when the store wants no more of a body.
var errTaken = errors.New("bodies: taken")

// data is for the frames that hold a body's content.
func (in *intake) data(p []byte) error {
	if in.done == nil || int64(len(p)) > in.left {
		return fmt.Errorf("%w: data that belongs to no body", errProtocol)
	}
	in.left -= int64(len(p))
	defer in.move() // the store may have taken long
	if in.pipe == nil {
		in.small = append(in.small, p...)
		return nil
	}
	if _, err := in.pipe.Write(p); err != nil && !errors.Is(err, errTaken) {
		return err
	}
	return nil
}

// end is for the frame that follows the content; whole says that it came to its end.
func (in *intake) end(whole bool) error {
	done := in.done
	if done == nil {
		return fmt.Errorf("%w: end of no body", errProtocol)
	}
	in.done = nil
	in.moved.Store(0)
	if whole && in.left > 0 {
		return errors.Join(fmt.Errorf("%w: body %s lacks %d octets", errProtocol, in.body.Name, in.left), in.drop(done, errShort))
	}
	if !whole {
		return in.drop(done, errShort)
	}
	if in.pipe != nil {
		return in.pipe.Close() // the goroutine that takes it does the rest
	}
	return in.take(bytes.NewReader(in.small), done)
}

func (in *intake) move() { in.moved.Store(int64(time.Since(in.clock)) + 1) }

// watch ends when the peer is alive and does not go on with a body: its disk may hang, and this store is in use meanwhile.
func (in *intake) watch(ctx context.Context, most time.Duration) error {
	for pause(ctx, most/4) {
		if at := in.moved.Load(); at > 0 && time.Since(in.clock)-time.Duration(at) > most {
			return errStuck
		}
	}
	return ctx.Err()
}

// drop gives a body up that was not read to its end.
func (in *intake) drop(done func(error), err error) error {
	if in.pipe != nil {
		return in.pipe.CloseWithError(err)
	}
	done(err)
	return nil
}

// take has the store take a body, when there is a slot.
func (in *intake) take(r io.Reader, done func(error)) error {
	select {
	case in.slots <- struct{}{}:
	case <-in.ctx.Done():
		done(in.ctx.Err())
		return in.ctx.Err()
	}
	b := in.body
	in.wg.Go(func() {
		err := in.store.TakeBody(b, r)
		<-in.slots
		done(err)
	})
	return nil
}

// wait drops what is not complete, and returns when all has been told.
func (in *intake) wait() {
	if done := in.done; done != nil {
		in.done = nil
		in.drop(done, errShort)
	}
	in.wg.Wait()
}
