package link

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	// maxConns is the most connections to one address.
	maxConns = 64
	// idleTime is how long a connection that nobody uses stays open; less than the server's patience.
	idleTime = time.Minute
	// batch is the most recipients of one transaction, which is what a store takes.
	batch = 100
)

// Message is a message for a store, without its recipients.
type Message struct {
	From    string           // empty for a bounce
	Options smtp.MailOptions // of these UTF8, Size, Return and EnvelopeID go on
	User    string           // address of the mailbox that sent it; empty for a stranger's
	Tx      string           // transaction id; empty for none
	Hold    bool             // keep it apart from other mail
	Head    string           // fields that go on top of the body
	Body    func() io.Reader // gives a new reader of the body with each call
}

// Recipient is one recipient of a message. NOTIFY and ORCPT of its options go on.
type Recipient struct {
	Address string
	Options smtp.RcptOptions
}

// Pool holds the connections of one process. It is safe for concurrent use.
type Pool struct {
	hostname  string
	tls       *tls.Config
	log       *slog.Logger
	retryTime time.Duration

	mu     sync.Mutex
	closed bool
	peers  map[netip.AddrPort]*peer
}

// peer is one address with its connections.
type peer struct {
	slots chan struct{} // one for each connection in use
	idle  []*conn       // the last one used is the last; guarded by the pool's mu
}

// ErrClosed is the error of a closed Pool.
var ErrClosed = errors.New("link: the pool is closed")

// NewPool makes a pool. hostname is our name in LHLO; config is the calling side of the links.
func NewPool(hostname string, config *tls.Config, log *slog.Logger) *Pool {
	return &Pool{hostname: hostname, tls: config, log: log, retryTime: retryTime, peers: map[netip.AddrPort]*peer{}}
}

// Close closes idle connections, and each one in use when its user is done. Later calls get ErrClosed.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, peer := range p.peers {
		for _, c := range peer.idle {
			c.idle.Stop()
			c.Close()
		}
		peer.idle = nil
	}
}

// Ask asks the server at an address whether it would take the message, of which it sends nothing. There is one result for
// each recipient: nil, the server's refusal as *smtp.SMTPError, or another error when the server cannot tell now. A server
// that is not there, or not the active store, is asked again for some seconds.
func (p *Pool) Ask(ctx context.Context, addr netip.AddrPort, m Message, to []Recipient) []error {
	return inBatches(to, func(to []Recipient) []error {
		return p.repeat(ctx, to, func(to []Recipient, t turn) ([]error, bool) { return p.ask(ctx, addr, m, to, t), false })
	})
}

// Deliver hands the message to the server at an address. There is one result for each recipient: nil when the server has
// it, its refusal as *smtp.SMTPError, or another error when it may have it or not. To a server that is not there, or not the
// active store, or that does not answer, the message is sent again for some seconds.
func (p *Pool) Deliver(ctx context.Context, addr netip.AddrPort, m Message, to []Recipient) []error {
	return inBatches(to, func(to []Recipient) []error {
		m := m
		if m.Tx == "" {
			m.Tx = newTx()
		}
		return p.repeat(ctx, to, func(to []Recipient, t turn) ([]error, bool) { return p.deliver(ctx, addr, m, to, t) })
	})
}

func inBatches(to []Recipient, do func([]Recipient) []error) []error {
	var results []error
	for some := range slices.Chunk(to, batch) {
		results = append(results, do(some)...)
	}
	return results
}

func (p *Pool) ask(ctx context.Context, addr netip.AddrPort, m Message, to []Recipient, t turn) []error {
	lines, err := commands(m, to, "RSET")
	if err != nil {
		return same(len(to), err)
	}
	c, replies, err := p.begin(ctx, addr, lines, t)
	if err != nil {
		return same(len(to), err)
	}
	p.put(addr, c)
	return taken(replies)
}

func (p *Pool) deliver(ctx context.Context, addr netip.AddrPort, m Message, to []Recipient, t turn) (results []error, sent bool) {
	lines, err := commands(m, to, "DATA")
	if err != nil {
		return same(len(to), err), false
	}
	c, replies, err := p.begin(ctx, addr, lines, t)
	if err != nil {
		return same(len(to), err), false
	}
	results = taken(replies)
	pending := 0
	for _, err := range results {
		if err == nil {
			pending++
		}
	}
	if data := replies[len(replies)-1]; data.code != 354 {
		c.dirty = true
		p.put(addr, c)
		return fill(results, data.err()), false
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	replies, err = c.send(io.MultiReader(strings.NewReader(m.Head), bodyReader{m.Body()}), pending, t.last)
	if err == nil && pending > 0 && stop() {
		p.put(addr, c)
	} else {
		p.drop(addr, c)
	}
	for i := range results {
		switch {
		case results[i] != nil:
		case len(replies) > 0:
			results[i] = replies[0].err()
			replies = replies[1:]
		default:
			results[i] = fmt.Errorf("send to %s: %w", addr, err)
		}
	}
	return results, true
}

// commands gives the lines of a transaction; the last of them ends or goes on with it.
func commands(m Message, to []Recipient, last string) ([]string, error) {
	mail, err := mailLine(m, to)
	if err != nil {
		return nil, err
	}
	lines := []string{mail}
	for _, r := range to {
		rcpt, err := rcptLine(r)
		if err != nil {
			return nil, err
		}
		lines = append(lines, rcpt)
	}
	return append(lines, last), nil
}

// taken sorts the replies to MAIL, to each RCPT and to one more command into a result for each recipient.
func taken(replies []reply) []error {
	results := make([]error, len(replies)-2)
	for i := range results {
		results[i] = cmp.Or(replies[0].err(), replies[i+1].err())
	}
	return results
}

// same gives n results that are all the same.
func same(n int, err error) []error { return slices.Repeat([]error{err}, n) }

// fill gives those the error that have none. That there is none for them either breaks the protocol.
func fill(results []error, err error) []error {
	for i := range results {
		results[i] = cmp.Or(results[i], err, errNoData)
	}
	return results
}

var errNoData = errors.New("link: the store answers DATA with neither 354 nor a refusal")
