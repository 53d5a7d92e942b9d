package transfer

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
)

// Bounds of what a primary may cost.
const (
	dialTime  = 5 * time.Second
	askTime   = 10 * time.Second // for the answer to a question
	stepTime  = 30 * time.Second // for the next message of a transfer
	wholeTime = 30 * time.Minute // for a transfer
	maxBytes  = 1 << 30          // of one
)

// DefaultMaxSize is how many bytes the records of a zone may take where nothing else is said: those of more than a million names.
const DefaultMaxSize = 64 << 20

// Peer is a server that zones are taken from, or that is told of changes.
type Peer struct {
	Addr netip.AddrPort
	Key  *Key // nil: messages are not signed

	// MaxSize is how many bytes the records of a zone may take that it sends, with names in full; 0: DefaultMaxSize.
	MaxSize int
}

// Client asks primaries.
type Client struct {
	Dial func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer's
}

// Update is what a primary had to say.
type Update struct {
	Kind    Kind
	Zone    *zone.Zone // nil if Kind is None
	Serial  uint32     // of the primary
	Records int        // that were sent
	Bytes   int

	// Age is how long ago the version was known to be good, by a primary that is itself a secondary (RFC 7314).
	Age time.Duration
}

// Errors of primaries.
var (
	ErrOlder   = errors.New("its serial is older than ours; it lags behind, or its serial was set back and has to be raised")
	ErrRefused = errors.New("it refuses")
	ErrTooBig  = errors.New("the zone is too big to be taken")
)

// Update asks a primary for a zone, of which have is the version we have (nil: none). It asks for the serial first, and if
// that is newer for an incremental transfer, and for a whole one if need be. Nothing of a transfer is used before it is
// complete, and each message's signature is right. The zone has no dynamic names.
func (c *Client) Update(ctx context.Context, from Peer, origin string, have *zone.Zone) (Update, error) {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	u, err := c.update(ctx, from, origin, have)
	if err != nil {
		return u, fmt.Errorf("transfer %s from %v: %w", bare(origin), from.Addr, err)
	}
	return u, nil
}

func (c *Client) update(ctx context.Context, from Peer, origin string, have *zone.Zone) (u Update, err error) {
	s, err := c.open(ctx, from, origin)
	if err != nil {
		return u, err
	}
	defer func() { s.close() }()
	u.Kind = None
	if u.Serial, u.Age, err = s.serial(true); err != nil {
		return u, err
	}
	age := u.Age
	defer func() { u.Age = age }()
	switch {
	case have == nil:
	case u.Serial == have.Serial():
		return u, nil
	case !Newer(u.Serial, have.Serial()):
		return u, fmt.Errorf("its serial %d, ours %d: %w", u.Serial, have.Serial(), ErrOlder)
	default:
		if u, err = s.transfer(have); err == nil {
			return u, nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrTooBig) {
			return u, err
		}
		// what a server answers that does not know IXFR is anything, and then it may close: RFC 1995 section 4
		s.close()
		again, err := c.open(ctx, from, origin)
		if err != nil {
			return Update{}, err
		}
		s = again
	}
	return s.transfer(nil)
}

// session is a connection to a primary, about one zone.
type session struct {
	ctx    context.Context // of the one call that this is for
	conn   net.Conn
	stop   func() bool
	peer   Peer
	origin string
	buf    []byte
	bytes  int
	wait   time.Duration // for the next message
}

func (c *Client) open(ctx context.Context, to Peer, origin string) (*session, error) {
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := dial(dialing, "tcp", to.Addr.String())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return &session{ctx: ctx, conn: conn, stop: stop, peer: to, origin: origin, buf: make([]byte, 2+64<<10), wait: askTime}, nil
}

func (s *session) close() {
	s.stop()
	s.conn.Close()
}

// exchange is one query and its reply.
type exchange struct {
	*session
	query *dns.Msg
	chain *chain // nil: not signed
}

// ask sends a query, for a transfer with the version that we have.
func (s *session) ask(rrtype uint16, have *zone.Zone, options ...dns.EDNS0) (*exchange, error) {
	q := new(dns.Msg)
	q.Id = uint16(rand.Uint32())
	q.Question = []dns.Question{{Name: s.origin, Qtype: rrtype, Qclass: dns.ClassINET}}
	if have != nil {
		q.Ns = []dns.RR{have.SOA()} // RFC 1995 section 3
	}
	if len(options) > 0 {
		q.SetEdns0(1232, false)
		q.IsEdns0().Option = options
	}
	wire, err := q.Pack()
	if err != nil {
		return nil, err
	}
	x := &exchange{session: s, query: q}
	if s.peer.Key != nil {
		x.chain = &chain{key: s.peer.Key}
		wire = x.chain.request(wire, time.Now())
	}
	if err := s.conn.SetDeadline(time.Now().Add(s.wait)); err != nil {
		return nil, err
	}
	_, err = s.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...))
	return x, err
}

// next gives the next message of the reply.
func (x *exchange) next() (*dns.Msg, error) {
	if err := x.conn.SetDeadline(time.Now().Add(x.wait)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(x.conn, x.buf[:2]); err != nil {
		return nil, x.cut(err)
	}
	wire := x.buf[:binary.BigEndian.Uint16(x.buf)]
	if _, err := io.ReadFull(x.conn, wire); err != nil {
		return nil, x.cut(err)
	}
	if x.bytes += len(wire); x.bytes > maxBytes {
		return nil, fmt.Errorf("more than %d bytes: %w", maxBytes, ErrTooBig)
	}
	return x.read(wire)
}

func (x *exchange) cut(err error) error {
	if x.ctx.Err() != nil {
		return x.ctx.Err()
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read the reply: %w", err)
}

// read checks one message of the reply and unpacks it. With ErrRefused there is a message too.
func (x *exchange) read(wire []byte) (*dns.Msg, error) {
	msg, signed := x.chain.reply(wire, time.Now())
	if signed != nil && !errors.Is(signed, ErrUnsigned) {
		return nil, signed
	}
	if msg == nil {
		msg = wire
	}
	m, err := unpack(msg)
	switch {
	case err != nil:
		return nil, err
	case m.Id != x.query.Id || !m.Response || m.Opcode != dns.OpcodeQuery:
		return nil, fmt.Errorf("%w: the reply is not one to the query", errMalformed)
	case len(m.Question) > 0 && (m.Question[0].Qtype != x.query.Question[0].Qtype ||
		dns.CanonicalName(m.Question[0].Name) != x.origin):
		return nil, fmt.Errorf("%w: the reply is about something else", errMalformed)
	case m.Rcode != dns.RcodeSuccess:
		return m, fmt.Errorf("%w with %s; look there whether it has the zone and lets this server have it",
			ErrRefused, dns.RcodeToString[m.Rcode])
	}
	return m, signed
}

// unpack reads a message; unlike the library it wants all the records that the header counts.
func unpack(wire []byte) (*dns.Msg, error) {
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	for i, n := range []int{len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)} {
		if n != int(binary.BigEndian.Uint16(wire[4+2*i:])) {
			return nil, fmt.Errorf("%w: it has fewer records than it says", errMalformed)
		}
	}
	return m, nil
}

// serial asks for the primary's serial, and how old what it has is. With edns it can say so; what does not know EDNS is asked without.
func (s *session) serial(edns bool) (serial uint32, age time.Duration, err error) {
	var options []dns.EDNS0
	if edns {
		options = []dns.EDNS0{&dns.EDNS0_EXPIRE{Code: dns.EDNS0EXPIRE, Empty: true}}
	}
	x, err := s.ask(dns.TypeSOA, nil, options...)
	if err != nil {
		return 0, 0, err
	}
	m, err := x.next()
	if edns && errors.Is(err, ErrRefused) && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) {
		return s.serial(false)
	}
	if err != nil {
		return 0, 0, err
	}
	i := slices.IndexFunc(m.Answer, func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeSOA && dns.CanonicalName(rr.Header().Name) == s.origin
	})
	if i < 0 || !m.Authoritative {
		return 0, 0, fmt.Errorf("%w: its answer has no SOA record with authority; look there whether it serves the zone", ErrRefused)
	}
	soa := m.Answer[i].(*dns.SOA)
	return soa.Serial, ageOf(m, soa), nil
}

// ageOf is how much of a zone's time to expire is over.
func ageOf(m *dns.Msg, soa *dns.SOA) time.Duration {
	opt := m.IsEdns0()
	if opt == nil {
		return 0
	}
	for _, o := range opt.Option {
		if e, ok := o.(*dns.EDNS0_EXPIRE); ok && !e.Empty && e.Expire < soa.Expire {
			return time.Duration(soa.Expire-e.Expire) * time.Second
		}
	}
	return 0
}

// transfer asks for what is newer than have, or for the whole zone if that is nil. The zone is built while it comes, so that little
// more memory is needed than the zone takes.
func (s *session) transfer(have *zone.Zone) (u Update, err error) {
	rrtype := uint16(dns.TypeAXFR)
	in := incoming{origin: s.origin, max: cmp.Or(s.peer.MaxSize, DefaultMaxSize)}
	if have != nil {
		rrtype = dns.TypeIXFR
		in.incremental, in.serial = true, have.Serial()
	}
	s.wait = stepTime
	before := s.bytes
	x, err := s.ask(rrtype, have)
	if err != nil {
		return u, err
	}
	var failed error
	made, err := zone.Build(s.origin, func(yield func(dns.RR) bool) {
		ok := true // zone has not seen enough
		in.whole = func(rr dns.RR) { ok = ok && yield(rr) }
		if failed = x.receive(&in, &u); failed != nil || in.kind != Incremental {
			return
		}
		var records iter.Seq[dns.RR]
		if records, failed = apply(have, in.deltas); failed == nil {
			failed = upTo(in.max, records, yield)
		}
	})
	if failed != nil {
		return Update{}, failed
	}
	u.Kind, u.Serial, u.Bytes = in.kind, in.soa.Serial, s.bytes-before
	if u.Kind == None {
		return u, nil
	}
	u.Zone = made
	return u, err
}

// upTo yields records, unless they take more bytes.
func upTo(bytes int, records iter.Seq[dns.RR], yield func(dns.RR) bool) error {
	size := 0
	for rr := range records {
		if size += dns.Len(rr); size > bytes {
			return tooBig(bytes)
		}
		if !yield(rr) {
			break
		}
	}
	return nil
}

func tooBig(bytes int) error {
	return fmt.Errorf("its records take more than %d bytes: %w; raise max_size if it is to be that big", bytes, ErrTooBig)
}

// receive takes the messages of a transfer.
func (x *exchange) receive(in *incoming, u *Update) error {
	for !in.message() {
		m, err := x.next()
		if err != nil {
			return err
		}
		if len(m.Answer) == 0 {
			return fmt.Errorf("%w: a message without records", ErrBroken)
		}
		u.Records += len(m.Answer)
		for _, rr := range m.Answer {
			if !dns.IsSubDomain(in.origin, rr.Header().Name) && rr.Header().Rrtype != dns.TypeSOA {
				continue // of another zone: of no use here, and no reason to do without the rest
			}
			if err := in.take(rr); err != nil {
				return err
			}
		}
	}
	if x.chain != nil && x.chain.loose > 0 {
		return ErrUnsigned // RFC 8945 section 5.3.1: the last one is
	}
	return nil
}
