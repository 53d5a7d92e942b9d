package limit

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// Kind is what replies are equal by.
type Kind uint8

// The kinds.
const (
	Answer    Kind = iota // by the name that was asked for, or the wildcard that matched it
	NoData                // likewise
	Referral              // by the delegated name
	NameError             // by the zone: each name that does not exist is another one
	Failure               // FORMERR, REFUSED and the like: all alike, whatever was asked

	// uses of a table beside those
	anyReply
	udpQuery
	tcpQuery
)

// Verdict is what becomes of a reply.
type Verdict uint8

// The verdicts.
const (
	Send Verdict = iota
	Slip         // send message.Edge.Slip in its place
	Drop
)

// String gives the word for a log.
func (v Verdict) String() string { return [...]string{"send", "slip", "drop"}[v%3] }

// Reply is what Decide has to know of one.
type Reply struct {
	To      netip.Addr
	Kind    Kind
	Name    uint64 // by NameHash, of the name that the Kind says; without meaning for Failure
	Trusted bool   // the client has shown that it receives at its address: message.Query.Trusted
}

// Limiter applies a Config. It is safe for concurrent use.
type Limiter struct {
	cfg   Config
	seed  Seed
	start time.Time

	replies, udp, tcp           *table // nil for no limit
	replyRate, udpRate, tcpRate rate
	wholeRate                   rate // of all replies to a network; without cost for no limit
	counts                      *counters
	top                         top
	connMu                      sync.Mutex
	conns                       int
	networks                    map[netip.Prefix]int
}

// Random gives a Seed that nobody knows.
func Random() Seed {
	var b [32]byte
	rand.Read(b[:]) // never fails: the program ends instead
	var s Seed
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return s
}

// New gives a Limiter. The config must have passed Validate; now is any time before the first that a method is given.
func New(cfg Config, seed Seed, now time.Time) *Limiter {
	l := &Limiter{cfg: cfg, seed: seed, start: now, counts: new(counters), networks: map[netip.Prefix]int{}}
	if cfg.ResponsesPerSecond > 0 || cfg.NetworkResponsesPerSecond > 0 {
		l.replies = newTable(cfg.TableSize)
	}
	if n := cfg.ResponsesPerSecond; n > 0 {
		l.replyRate = perSecond(n, cfg.Window)
		l.replyRate.slip = uint64(cfg.Slip)
	}
	if n := cfg.NetworkResponsesPerSecond; n > 0 {
		l.wholeRate = perSecond(n, cfg.Window)
		l.wholeRate.slip = uint64(cfg.Slip)
	}
	if n := cfg.QueriesPerSecond; n > 0 {
		l.udp, l.udpRate = newTable(cfg.TableSize), perSecond(n, 0)
	}
	if n := cfg.TCPQueriesPerSecond; n > 0 {
		// of its own, and small: nobody forges these addresses, and no flood over UDP shall fill it
		l.tcp, l.tcpRate = newTable(minTableSize), perSecond(n, 0)
	}
	return l
}

// NameHash gives the hash of a name in canonical form for Reply.Name. It is another one for each Seed.
func (l *Limiter) NameHash(name string) uint64 { return l.seed.name(name) }

// Decide says what becomes of a reply over UDP. It allocates nothing. A LogOnly Limiter counts, and always says Send.
func (l *Limiter) Decide(now time.Time, r Reply) Verdict {
	if l.replies == nil || r.Trusted {
		return Send
	}
	if r.Kind == Failure {
		r.Name = 0
	}
	network, at := l.network(r.To), l.ticks(now)
	key := l.seed.key(network, uint64(r.Kind), r.Name)
	var over, told bool
	if l.replyRate.cost > 0 {
		over, told = l.replies.use(key, at, &l.replyRate)
	}
	if l.wholeRate.cost > 0 && !over {
		over, told = l.replies.use(l.seed.key(network, uint64(anyReply), 0), at, &l.wholeRate)
	}
	if !over || l.exempt(r.To) {
		return Send
	}
	v, why := Drop, Dropped
	if told {
		v, why = Slip, Slipped
	}
	if !l.note(now, key, network, why) {
		return Send
	}
	return v
}

// Query says whether a query that came over UDP, or over a stream, may be answered. A query over UDP that may not gets no
// reply; who serves a stream closes it.
func (l *Limiter) Query(now time.Time, from netip.Addr, stream bool) bool {
	t, r, use, why := l.udp, &l.udpRate, udpQuery, UDPQuery
	if stream {
		t, r, use, why = l.tcp, &l.tcpRate, tcpQuery, TCPQuery
	}
	if t == nil {
		return true
	}
	network := l.network(from)
	key := l.seed.key(network, uint64(use), 0)
	if over, _ := t.use(key, l.ticks(now), r); !over || l.exempt(from) {
		return true
	}
	return !l.note(now, key, network, why)
}

// ticks counts from the start; a batch of queries may have been read a moment before.
func (l *Limiter) ticks(now time.Time) uint64 { return uint64(max(now.Sub(l.start), 0) / tick) }

// notIPv6 marks the number of an IPv4 network. As IPv6 it would be multicast, which sends nothing.
const notIPv6 = 0xffff_ffff << 32

// network numbers the network of an address.
func (l *Limiter) network(a netip.Addr) uint64 {
	if a.Is4() || a.Is4In6() {
		b := a.As4()
		v4 := binary.BigEndian.Uint32(b[:])
		return notIPv6 | uint64(v4&^(1<<(32-l.cfg.IPv4Prefix)-1))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:]) &^ (1<<(64-l.cfg.IPv6Prefix) - 1)
}

// prefix is the inverse of network.
func (l *Limiter) prefix(network uint64) netip.Prefix {
	if network&notIPv6 == notIPv6 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(network))
		return netip.PrefixFrom(netip.AddrFrom4(b), l.cfg.IPv4Prefix)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], network)
	return netip.PrefixFrom(netip.AddrFrom16(b), l.cfg.IPv6Prefix)
}

// exempt is asked only about who is over a limit, so that the list costs others nothing.
func (l *Limiter) exempt(a netip.Addr) bool {
	if len(l.cfg.Exempt) == 0 {
		return false
	}
	a = a.Unmap().WithZone("")
	for _, p := range l.cfg.Exempt {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
