package client

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	noopEvery   = 250 * time.Millisecond // from one NOOP of a held session to the next
	crowdEvery  = 20 * time.Second       // the same in a crowd, which is to be there and no more
	reopenEvery = 100 * time.Millisecond // from one attempt to open a session again to the next
)

// session is one that is to stay open.
type session interface {
	// open opens it and gives the server's name, if it told it.
	open(ctx context.Context) (server string, err error)
	// stay uses it until ctx is done, which is no error, or it breaks. asked is when the last command was sent.
	stay(ctx context.Context) (asked time.Time, err error)
	close()
}

// Crowd holds n SMTP sessions open at an address until ctx is done, and calls all when it has them for the first time.
func Crowd(ctx context.Context, addr netip.AddrPort, n int, all func()) error {
	var wg sync.WaitGroup
	var opened atomic.Int64
	for range n {
		wg.Go(func() {
			first := true
			for s := (&held{addr: addr, every: crowdEvery}); ctx.Err() == nil; wait(ctx, reopenEvery) {
				if _, err := s.open(ctx); err != nil {
					continue
				}
				if first && opened.Add(1) == int64(n) {
					all()
				}
				first = false
				_, _ = s.stay(ctx) // whatever ended it, another takes its place
				s.close()
			}
		})
	}
	wg.Wait()
	if got := opened.Load(); got < int64(n) {
		return fmt.Errorf("%d of %d sessions could be opened at %s", got, n, addr)
	}
	return nil
}

// keep holds a session open, and opens it again when it breaks. Both are events, made from e. That it cannot be opened is
// none: new connections are counted elsewhere, and a session counts when it breaks.
func keep(ctx context.Context, log *Log, e Event, s session) {
	for ctx.Err() == nil {
		opened := e
		opened.Start = time.Now()
		var err error
		for tries := 1; ; tries++ {
			if opened.Server, err = s.open(ctx); err == nil {
				if tries > 1 {
					opened.Tries = tries
				}
				break
			}
			if ctx.Err() != nil {
				return
			}
			wait(ctx, reopenEvery)
		}
		log.Add(opened, nil)
		broken := e
		broken.Server = opened.Server
		broken.Start, err = s.stay(ctx)
		s.close()
		if err != nil {
			broken.Reconnect = ctx.Err() == nil
			log.Add(broken, err)
		}
	}
}

// held is an SMTP session with a NOOP every so often.
type held struct {
	ports *ports
	addr  netip.AddrPort
	every time.Duration // from one NOOP to the next
	conn  *lineConn
}

func (h *held) open(ctx context.Context) (server string, err error) {
	conn, r, server, err := open(ctx, h.ports, h.addr, bannerSMTP)
	if err == nil {
		h.conn = &lineConn{conn: conn, r: r}
	}
	return server, err
}

func (h *held) close() { h.conn.conn.Close() }

// stay asks until ctx is done or an answer fails to come. Between two questions it listens, so that an end is noticed when
// it comes.
func (h *held) stay(ctx context.Context) (asked time.Time, err error) {
	for ctx.Err() == nil {
		asked = time.Now()
		if err := h.conn.send("NOOP"); err != nil {
			return asked, err
		}
		line, err := h.conn.line(asked.Add(answerTime))
		if err != nil {
			return asked, err
		}
		if !strings.HasPrefix(line, "250") {
			return asked, refused(line)
		}
		line, err = h.conn.quiet(ctx, time.Until(asked.Add(h.every)))
		if err == nil && line != "" {
			err = refused(line)
		}
		if err != nil {
			return time.Now(), err // nothing was asked: it broke by itself
		}
	}
	return asked, nil
}

func refused(line string) error {
	if strings.HasPrefix(line, "421") {
		return &failure{ReasonBye, fmt.Sprintf("the server says %q", line)}
	}
	return &failure{ReasonProtocol, fmt.Sprintf("the server says %q", line)}
}
