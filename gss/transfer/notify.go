package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	notifyTries = 6 // RFC 1996 section 3.6 has a server try five times again
	notifyFirst = 2 * time.Second
	maxNotify   = 32 // that are under way at once; who waits for its next try counts not
)

// NotifierOptions are what a Notifier needs.
type NotifierOptions struct {
	Log     *slog.Logger
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer's
	Random  func() float64                                                    // 0 to 1; nil: math/rand's
	Observe func(origin string, err error)                                    // is told what became of each; nil: nobody
}

// Notifier tells secondaries of new versions (RFC 1996).
type Notifier struct {
	o       NotifierOptions
	changed chan struct{} // holds one
	slots   chan struct{}

	mu      sync.Mutex
	pending map[told]*notice
	running map[told]*running
}

// told is who is to be told of which zone.
type told struct {
	origin string
	peer   string
}

type notice struct {
	soa  *dns.SOA
	peer Peer
}

type running struct{ stop context.CancelFunc }

// NewNotifier tells nobody yet.
func NewNotifier(o NotifierOptions) *Notifier {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Observe == nil {
		o.Observe = func(string, error) {}
	}
	return &Notifier{
		o: o, changed: make(chan struct{}, 1), slots: make(chan struct{}, maxNotify),
		pending: map[told]*notice{}, running: map[told]*running{},
	}
}

// Notify has secondaries told of the version of a zone that has this SOA record. It replaces what they were to be told of
// that zone before, and waits for nothing.
func (n *Notifier) Notify(soa *dns.SOA, peers []Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range peers {
		n.pending[told{dns.CanonicalName(soa.Hdr.Name), p.Addr.String()}] = &notice{soa, p}
	}
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// Run tells them until ctx is done.
func (n *Notifier) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		n.mu.Lock()
		for to, what := range n.pending {
			if was := n.running[to]; was != nil {
				was.stop()
			}
			inner, stop := context.WithCancel(ctx)
			r := &running{stop}
			n.running[to] = r
			wg.Go(func() {
				n.tell(inner, what)
				n.end(to, r)
			})
		}
		clear(n.pending)
		n.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
		}
	}
}

func (n *Notifier) end(to told, r *running) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r.stop()
	if n.running[to] == r {
		delete(n.running, to)
	}
}

// tell tells one secondary, until it has heard or there is no use in it.
func (n *Notifier) tell(ctx context.Context, what *notice) {
	origin := dns.CanonicalName(what.soa.Hdr.Name)
	wait := notifyFirst
	var err error
	for range notifyTries {
		began := time.Now()
		if err = n.try(ctx, what, wait); err == nil || ctx.Err() != nil || errors.Is(err, ErrRefused) {
			break
		}
		// whether it was silent or a router said that it is not there
		if !pause(ctx, time.Until(began.Add(wait))+time.Duration(n.o.Random()*float64(wait))) {
			break
		}
		wait *= 2
	}
	if ctx.Err() != nil {
		return // told of a newer version, or no more
	}
	n.o.Observe(origin, err)
	if err != nil {
		n.o.Log.Warn("a secondary was not told of a new version", "zone", bare(origin), "secondary", what.peer.Addr,
			"serial", what.soa.Serial, "err", err)
	}
}

// try sends one message and waits for the reply.
func (n *Notifier) try(ctx context.Context, what *notice, patience time.Duration) error {
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	conn, err := n.o.Dial(ctx, "udp", what.peer.Addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	q := notification(what.soa)
	wire, err := q.Pack()
	if err != nil {
		return err
	}
	var c *chain
	if what.peer.Key != nil {
		c = &chain{key: what.peer.Key}
		wire = c.request(wire, time.Now())
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write(wire); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		size, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("wait for the reply: %w", err)
		}
		if heard, err := acknowledged(buf[:size], q, c); heard {
			return err
		}
	}
}

// notification is the message of RFC 1996 section 3.
func notification(soa *dns.SOA) *dns.Msg {
	q := new(dns.Msg)
	q.Id, q.Opcode, q.Authoritative = uint16(rand.Uint32()), dns.OpcodeNotify, true
	q.Question = []dns.Question{{Name: soa.Hdr.Name, Qtype: dns.TypeSOA, Qclass: dns.ClassINET}}
	q.Answer = []dns.RR{soa}
	return q
}

// acknowledged says whether a message is the reply, and what is wrong if it is one.
func acknowledged(wire []byte, q *dns.Msg, c *chain) (heard bool, err error) {
	if len(wire) < headerSize {
		return false, nil
	}
	msg, signed := c.reply(wire, time.Now())
	if msg == nil {
		msg = wire
	}
	m, err := unpack(msg)
	if err != nil || m.Id != q.Id || !m.Response || m.Opcode != dns.OpcodeNotify {
		return false, nil
	}
	if m.Rcode != dns.RcodeSuccess {
		return true, fmt.Errorf("%w with %s; look there whether it takes this server for a primary of the zone",
			ErrRefused, dns.RcodeToString[m.Rcode])
	}
	return signed == nil, nil
}
