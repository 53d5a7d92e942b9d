package bodies

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"anycastle/mailroles/replica/wire"
)

// maxRecord is how much TLS sends in one record. Most connections are idle: they hold no more memory than they must.
const maxRecord = 16 << 10

// stream is a connection in frames. One goroutine reads, any may write.
type stream struct {
	conn    net.Conn
	peer    string
	times   Times
	timeout time.Duration
	r       *bufio.Reader
	buf     []byte

	mu sync.Mutex
	w  *bufio.Writer
}

func newStream(conn net.Conn, times Times) *stream {
	return &stream{
		conn: conn, peer: wire.Peer(conn), times: times, timeout: times.Timeout,
		r: bufio.NewReaderSize(conn, maxRecord), w: bufio.NewWriterSize(conn, maxRecord),
	}
}

// serveEach serves the connections of a kind that others open, until ctx ends.
func serveEach(ctx context.Context, opt Options, kind wire.Kind, serve func(context.Context, *stream) error) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case conn := <-opt.Net.Accept(kind):
			wg.Go(func() {
				s := newStream(conn, opt.Times)
				if err := serve(ctx, s); err != nil {
					opt.Log.Debug("connection ended", "kind", kind, "peer", s.peer, "err", err)
				}
			})
		}
	}
}

// read gives the next frame that is no tick. The peer must send something within the timeout. What it gives is valid until
// the next one is read.
func (s *stream) read() (kind byte, payload []byte, err error) {
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(s.timeout)); err != nil {
			return 0, nil, err
		}
		kind, payload, err = readFrame(s.r, s.buf)
		if err != nil || kind != frameTick {
			s.buf = payload[:0] // it may be a larger one
			return kind, payload, err
		}
	}
}

// put writes a frame, which may stay here until the next flush.
func (s *stream) put(kind byte, payload []byte, flush bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return err
	}
	if err := writeFrame(s.w, kind, payload); err != nil || !flush {
		return err
	}
	return s.w.Flush()
}

// send writes a frame of JSON.
func (s *stream) send(kind byte, v any, flush bool) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("make frame: %w", err)
	}
	return s.put(kind, payload, flush)
}

// sendBody sends the content of a body after its name. A content that is not what was announced is given up in a way that
// the peer sees: it has then not failed, but nothing was sent.
func (s *stream) sendBody(b Body, content io.Reader) error {
	if err := s.send(frameBody, b, false); err != nil {
		return err
	}
	chunk := make([]byte, min(maxChunk, max(b.Size, 1)))
	for left := b.Size; left > 0; {
		part := chunk[:min(left, int64(len(chunk)))]
		if _, err := io.ReadFull(content, part); err != nil {
			return s.put(frameAbort, []byte("the file cannot be read to its end"), true)
		}
		if err := s.put(frameData, part, false); err != nil {
			return err
		}
		left -= int64(len(part))
	}
	return s.put(frameEnd, nil, true)
}

// tick has the peer know that this side is alive, until ctx ends or the connection does.
func (s *stream) tick(ctx context.Context) error {
	every := s.times.sign()
	for pause(ctx, s.times.wait(every)) {
		if err := s.put(frameTick, nil, true); err != nil {
			return err
		}
	}
	return nil
}

// run runs goroutines on a connection until the first ends, then closes it, waits for all, and gives the first error.
func (s *stream) run(ctx context.Context, all ...func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	var wg sync.WaitGroup
	for _, f := range all {
		wg.Go(func() {
			err := f(ctx)
			if err == nil {
				err = errEnded
			}
			cancel(err) // the first counts
		})
	}
	wg.Wait()
	if stop() {
		s.conn.Close()
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, errEnded) {
		return cause
	}
	return nil
}

// errEnded ends the goroutines of a connection together.
var errEnded = errors.New("bodies: connection ended")

// pause waits, and says whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// signal wakes whoever waits for a change. The zero value is ready.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// next gives a channel that is closed at the next change.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// poke leaves a note in a channel of one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
