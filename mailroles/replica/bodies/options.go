package bodies

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"anycastle/internal/phase"
	"anycastle/mailroles/replica/chain"
	"anycastle/mailroles/replica/wire"
	"anycastle/mailroles/store"
)

// Body names the body of a message.
type Body = store.Body

// Store is what this package wants of the LUN's store. All methods are called concurrently.
type Store interface {
	// TakeBody reads a body, verifies size and sum, and returns when it is durable. It does nothing if it has it.
	TakeBody(b Body, r io.Reader) error
	// OpenBody opens a body. The error is store.ErrNoMessage if, for certain, it is not here.
	OpenBody(b Body) (*os.File, error)
	// Missing gives some of the bodies that messages here wait for, and how many they are.
	Missing(limit int) (list []Body, total int)
	WriteManifest(w io.Writer) (chain.Position, error)
	Mailboxes() []string
	Digest(mailbox string) (changed uint64, sum chain.Sum, err error)
}

var _ Store = (*store.Store)(nil)

// Net gives connections; *wire.Group does.
type Net interface {
	Dial(ctx context.Context, kind wire.Kind, member string) (net.Conn, error)
	Accept(kind wire.Kind) <-chan net.Conn
}

var _ Net = (*wire.Group)(nil)

// Peer is a mail replica.
type Peer struct{ Name, Site string }

// Options say who talks to whom. Self, Net and Store must be given.
type Options struct {
	Self   Peer
	Peers  []Peer // the other mail replicas, in order of preference
	Net    Net
	Store  Store
	Leader func() string // name of the leader, asked first for missing bodies; nil or "": not known
	Rate   int64         // most octets a second that are fetched when nobody waits for them; 0: default, negative: unlimited
	Spool  string        // directory for what a Desk writes before it sends it; default os.TempDir
	Times  Times
	Log    *slog.Logger // nil: silent
}

// DefaultRate is the most octets a second that a Fetcher fetches in the background if nothing else is said.
const DefaultRate = 50 << 20

// Times say when a peer is heard and when it is gone.
type Times struct {
	State   time.Duration // how often a state is told that has not changed; default 100 ms
	Timeout time.Duration // a peer that is not heard for so long is gone; default 2 s
	Retry   time.Duration // first pause before a peer is dialled again, doubled up to 16 times as long; default 100 ms
	// What is told from time to time is told at multiples of its period since this time, to all peers and of all LUNs of a
	// process at once: a process that is idle then wakes up once. Zero: when the options are completed.
	Since time.Time
}

// wait gives how long it is to the next multiple of a period.
func (t Times) wait(period time.Duration) time.Duration { return phase.Wait(t.Since, period) }

// sign is how often a peer is told that this side is alive: four times in the timeout, when states are told if that is as often.
func (t Times) sign() time.Duration {
	most := t.Timeout / 4
	if t.State <= 0 || t.State > most {
		return most
	}
	return most - most%t.State
}

// complete gives the options with their defaults.
func (o Options) complete() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Leader == nil {
		o.Leader = func() string { return "" }
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	def := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	def(&o.Times.State, 100*time.Millisecond)
	def(&o.Times.Timeout, 2*time.Second)
	def(&o.Times.Retry, 100*time.Millisecond)
	if o.Times.Since.IsZero() {
		o.Times.Since = time.Now()
	}
	return o
}

// names lists peers, those that are asked first at the front.
func (o Options) names() []string {
	var list []string
	for _, p := range o.Peers {
		list = append(list, p.Name)
	}
	if i := slices.Index(list, o.Leader()); i > 0 {
		leader := list[i]
		list = slices.Insert(slices.Delete(list, i, i+1), 0, leader)
	}
	return list
}
