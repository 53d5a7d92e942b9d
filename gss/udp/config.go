package udp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"time"
)

// MaxQuery is the size of the largest query that is taken: as much as OPT records of ours may say.
const MaxQuery = 4096

// MaxReply is the room that a handler has for a reply. Larger ones are for TCP.
const MaxReply = 4096

// Verdict says what a lane has done with a query.
type Verdict uint8

const (
	// Answered: the reply is to be sent.
	Answered Verdict = iota
	// Dropped: there is no reply.
	Dropped
	// Slow: Handler.Slow is to answer.
	Slow
)

// Handler answers queries.
type Handler interface {
	// Lane gives what answers the queries of the i-th socket, counted from 0. It is called when Serve begins.
	Lane(i int) Lane
	// Slow puts the reply to a query into dst, which has room for MaxReply octets, and gives its length; 0: there is none. It
	// is called by several goroutines at once and should not take longer than a resolver waits. It must not keep its slices.
	Slow(dst, query []byte, from netip.AddrPort) (n int)
}

// Lane answers the queries of one socket. One goroutine calls it.
type Lane interface {
	// Begin comes before each batch of queries, so that a lane looks up only once for all of them what may change.
	Begin(now time.Time)
	// Fast puts the reply to a query into dst, which has room for MaxReply octets, and gives its length and what to do. It
	// must not wait, nor keep its slices. A zone of the address is not told.
	Fast(dst, query []byte, from netip.AddrPort) (n int, v Verdict)
}

// Config is what a Server is made of. The zero value of a number stands for its default.
type Config struct {
	Listen        []netip.AddrPort // port 0: any, but all sockets of the address have the same
	Sockets       int              // for each address; default: GOMAXPROCS
	Workers       int              // for slow queries; default: GOMAXPROCS
	Queue         int              // slow queries that wait; default: 1024
	ReceiveBuffer int              // octets of each socket; default: 4 MiB. The kernel may give less without CAP_NET_ADMIN
	Gather        time.Duration    // how long a socket that is asked often waits for more; default: 100 µs, negative: not at all
	Drain         time.Duration    // at most, for what is left in the sockets at the end; default: 1 s
	Log           *slog.Logger     // nil: none
	Now           func() time.Time // nil: time.Now
}

// ErrConfig says that a Config cannot be served.
var ErrConfig = errors.New("UDP server")

func (c *Config) settle() error {
	if len(c.Listen) == 0 {
		return fmt.Errorf("%w: no address to listen on", ErrConfig)
	}
	for _, a := range c.Listen {
		if !a.Addr().IsValid() || a.Addr().Is4In6() {
			return fmt.Errorf("%w: cannot listen on %v", ErrConfig, a)
		}
	}
	if c.Sockets < 0 || c.Workers < 0 || c.Queue < 0 || c.ReceiveBuffer < 0 || c.Drain < 0 {
		return fmt.Errorf("%w: a number is negative", ErrConfig)
	}
	for _, d := range []struct {
		value *int
		or    int
	}{{&c.Sockets, runtime.GOMAXPROCS(0)}, {&c.Workers, runtime.GOMAXPROCS(0)}, {&c.Queue, 1024}, {&c.ReceiveBuffer, 4 << 20}} {
		if *d.value == 0 {
			*d.value = d.or
		}
	}
	if c.Gather == 0 {
		c.Gather = 100 * time.Microsecond
	}
	if c.Drain == 0 {
		c.Drain = time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}
