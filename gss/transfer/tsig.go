package transfer

import (
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	fudge    = 300 // seconds that two clocks may be apart: RFC 8945 section 10
	maxLoose = 99  // messages between two that are signed: RFC 8945 section 5.3.1
)

// Errors of messages that should be signed.
var (
	ErrUnsigned = errors.New("it is not signed; have both servers use the same key for the zone")
	ErrBadKey   = errors.New("the key is unknown, or of another algorithm; give both servers the same (BADKEY)")
	ErrBadSig   = errors.New("the signature is wrong; give the key the same secret at both servers (BADSIG)")
	ErrBadTime  = errors.New("the clocks are too far apart; set both right (BADTIME)")
	ErrBadTrunc = errors.New("the signature is cut short (BADTRUNC)")
)

// chain is the signatures of one exchange, each of which covers those before.
type chain struct {
	key   *Key
	mac   []byte    // of the signed message before; nil before the first
	later bool      // the first of the reply is over
	open  hash.Hash // of the messages since then that are not signed; nil if there is none
	loose int       // how many
}

func (c *chain) begin() hash.Hash {
	if c.open == nil {
		c.open = c.key.hash()
		if c.mac != nil {
			c.open.Write(binary.BigEndian.AppendUint16(nil, uint16(len(c.mac))))
			c.open.Write(c.mac)
		}
	}
	return c.open
}

// sum gives the signature of a message.
func (c *chain) sum(msg []byte, t *tsig) []byte {
	h := c.begin()
	h.Write(msg)
	h.Write(t.variables(c.later))
	c.open, c.loose = nil, 0
	return h.Sum(nil)
}

// sign appends a TSIG record to a message.
func (c *chain) sign(wire []byte, t *tsig) []byte {
	t.name, t.algorithm, t.id = c.key.Name, c.key.Algorithm+".", binary.BigEndian.Uint16(wire)
	t.mac = c.sum(wire, t)
	c.mac = t.mac
	return t.append(wire)
}

// request signs a query.
func (c *chain) request(wire []byte, now time.Time) []byte {
	return c.sign(wire, &tsig{time: uint64(now.Unix()), fudge: fudge})
}

// reply checks a message of the reply to what request signed, and gives it without its TSIG record. The last must be signed; who
// has it looks at loose.
func (c *chain) reply(wire []byte, now time.Time) ([]byte, error) {
	msg, t, err := split(wire)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return msg, nil // nobody asked for a signature
	case t == nil && (!c.later || c.loose == maxLoose):
		return nil, ErrUnsigned
	case t == nil:
		c.begin().Write(wire)
		c.loose++
		return msg, nil
	case t.err != 0 && len(t.mac) == 0:
		return nil, tsigError(t.err)
	case t.name != c.key.Name || t.algorithm != c.key.Algorithm+".":
		return nil, ErrBadKey
	case !hmac.Equal(t.mac, c.sum(msg, t)):
		return nil, ErrBadSig
	case t.err != 0:
		return nil, tsigError(t.err)
	case !t.timely(now):
		return nil, ErrBadTime
	}
	c.mac, c.later = t.mac, true
	return msg, nil
}

func (t *tsig) timely(now time.Time) bool {
	apart := now.Unix() - int64(t.time)
	return -int64(t.fudge) <= apart && apart <= int64(t.fudge)
}

// tsigError is what the other server says of our signature.
func tsigError(code uint16) error {
	for of, err := range map[uint16]error{
		dns.RcodeBadSig: ErrBadSig, dns.RcodeBadKey: ErrBadKey, dns.RcodeBadTime: ErrBadTime, dns.RcodeBadTrunc: ErrBadTrunc,
	} {
		if code == of {
			return fmt.Errorf("the other server refuses our signature: %w", err)
		}
	}
	return fmt.Errorf("the other server refuses our signature with error %d", code)
}

// Signature is what is known of a query's signature, and signs the messages of the reply.
type Signature struct {
	Key   *Key  // that the query is signed with; nil if it is unknown
	Err   error // ErrBadKey, ErrBadSig, ErrBadTime, ErrBadTrunc or another; nil: the signature is right
	Rcode int   // of the reply when there is an Err: NOTAUTH, or FORMERR

	chain *chain
	with  tsig // of the reply
}

// Check checks the signature of a query, which is given whole, with its TSIG record (RFC 8945 section 5.2).
func (k Keys) Check(wire []byte, now time.Time) *Signature {
	msg, t, err := split(wire)
	if err == nil && t == nil {
		err = ErrUnsigned
	}
	if err != nil {
		return &Signature{Err: err, Rcode: dns.RcodeFormatError}
	}
	s := &Signature{Rcode: dns.RcodeNotAuth, with: tsig{
		name: t.name, algorithm: t.algorithm, id: t.id, fudge: fudge,
	}}
	key := k[t.name]
	if key == nil || t.algorithm != key.Algorithm+"." {
		s.fail(dns.RcodeBadKey, ErrBadKey)
		return s
	}
	c := &chain{key: key}
	size := key.hash().Size()
	if len(t.mac) > size || len(t.mac) < max(10, size/2) { // RFC 8945 section 5.2.2.1
		return &Signature{Err: errMalformed, Rcode: dns.RcodeFormatError}
	}
	if mac := c.sum(msg, t); !hmac.Equal(t.mac, mac[:len(t.mac)]) {
		s.fail(dns.RcodeBadSig, ErrBadSig)
		return s
	}
	c.mac = t.mac
	s.chain, s.Key = c, key // from here on also a reply that refuses is signed
	switch {
	case !t.timely(now):
		s.fail(dns.RcodeBadTime, ErrBadTime)
		s.with.time = t.time // RFC 8945 section 5.2.3
		seconds := uint64(now.Unix())
		s.with.other = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, uint16(seconds>>32)), uint32(seconds))
	case len(t.mac) < size:
		s.fail(dns.RcodeBadTrunc, ErrBadTrunc)
	default:
		s.Rcode = dns.RcodeSuccess
	}
	return s
}

func (s *Signature) fail(code uint16, err error) { s.Err, s.with.err = err, code }

// Valid gives the name of the key that signed the query; none without a signature, or with one that is wrong.
func (s *Signature) Valid() string {
	if s == nil || s.Err != nil {
		return ""
	}
	return s.Key.Name
}

// Size is how many bytes Sign appends at most.
func (s *Signature) Size() int {
	if s == nil || s.with.name == "" {
		return 0
	}
	const fixed = 2 + fixedSize + 2 + 16 // with the byte by which a name's wire form is longer, and one to spare
	n := fixed + len(s.with.name) + len(s.with.algorithm) + len(s.with.other)
	if s.chain != nil {
		n += s.chain.key.hash().Size()
	}
	return n
}

// Sign appends the TSIG record to the next message of the reply. A query without a signature gets none.
func (s *Signature) Sign(wire []byte, now time.Time) []byte {
	if s == nil || s.with.name == "" {
		return wire
	}
	t := s.with
	if t.err != dns.RcodeBadTime {
		t.time = uint64(now.Unix())
	}
	if s.chain == nil { // RFC 8945 section 5.3.2: unsigned
		return t.append(wire)
	}
	wire = s.chain.sign(wire, &t)
	s.chain.later = true
	return wire
}

// bare is a canonical name as people write it.
func bare(name string) string { return strings.TrimSuffix(name, ".") }
