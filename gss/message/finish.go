package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/miekg/dns"
)

const (
	maxErrors  = 4   // extended errors of one reply
	maxText    = 128 // bytes of an extended error's text
	blockSize  = 468 // a padded reply is a multiple of: RFC 8467 section 4.1
	optSize    = 11  // bytes of an OPT record without options
	optionSize = 4   // bytes of an option without content
)

// ErrExtended says that a reply has an extended RCODE, which a client without EDNS cannot be told.
var ErrExtended = errors.New("extended RCODE without EDNS")

// Extras is what a reply says beside its records.
type Extras struct {
	Errors  []ExtendedError // most important first; those after the fourth are left out
	Scope   int             // prefix length of the clients that the answer is good for (RFC 7871); 0 where it is for all
	Expire  *uint32         // seconds that the zone stays good (RFC 7314): the SOA's at a primary, what is left of it at a secondary
	Idle    time.Duration   // that the connection may be quiet (RFC 7828); said to who asks, over TCP and TLS
	Glue    int             // how many records at the head of Extra a referral cannot do without: RFC 9471
	Reserve int             // bytes to leave free for a TSIG record
	CO      bool            // it is a compact denial with its NXDOMAIN: RFC 9824 section 5.1
	Version uint64          // of what the answer follows; NSID says it behind Config.ID and a slash; 0: nothing does

	least bool // only what the client's next query hangs on: the reply may go to a victim of forgery
}

// ExtendedError is an EDE of RFC 8914: a code of IANA's and a text for people, in UTF-8.
type ExtendedError struct {
	Code uint16
	Text string
}

// detail is how much of the extras goes into the OPT record.
type detail uint8

const (
	everything detail = iota
	withoutTexts
	necessary // what the client's next query hangs on
)

// Finish gives the wire form of a reply to the query. Of m it takes RCODE, AA, TC and the records, and leaves m as it is.
// Everything else is made here: the rest of the header, the question as it was asked, the OPT record if the query had one,
// and a size that the client can receive. When the reply is too large it goes without texts of extended errors, then
// without additional records that are not Glue; if it still does not fit, it has TC and no records at all. Over TCP only
// the 64 KiB of a message bound it.
//
// An error means that m has a record that cannot be packed, or an RCODE that needs EDNS where the query had none.
func (e *Edge) Finish(q *Query, m *dns.Msg, x Extras) ([]byte, error) {
	switch {
	case m.Rcode < 0 || m.Rcode > 0xfff:
		return nil, fmt.Errorf("finish a reply: no RCODE is %d", m.Rcode)
	case m.Rcode > 0xf && !q.EDNS:
		return nil, fmt.Errorf("finish a reply with RCODE %d: %w", m.Rcode, ErrExtended)
	}
	limit := e.Limit(q) - x.Reserve
	out := *m
	out.Extra = withoutOPT(m.Extra)
	if m.Truncated {
		out.Answer, out.Ns, out.Extra = nil, nil, nil
	}
	glue := min(max(x.Glue, 0), len(out.Extra))
	for {
		wire, err := pack(q, &out)
		if err != nil {
			return nil, err
		}
		d, fits := e.detail(q, x, limit-len(wire))
		if fits || out.Truncated {
			return e.seal(q, &out, x, wire, d, limit), nil
		}
		if len(out.Extra) > glue {
			out.Extra = out.Extra[:glue]
			continue
		}
		out.Answer, out.Ns, out.Extra, out.Truncated = nil, nil, nil, true
	}
}

// detail gives the most that an OPT record of so many bytes has room for, and whether that is all that matters.
func (e *Edge) detail(q *Query, x Extras, room int) (detail, bool) {
	if x.least {
		return necessary, e.optLen(q, x, necessary) <= room
	}
	for _, d := range []detail{everything, withoutTexts} {
		if e.optLen(q, x, d) <= room {
			return d, true
		}
	}
	return necessary, false
}

// withoutOPT gives the records without OPT, of which Finish makes its own.
func withoutOPT(rrs []dns.RR) []dns.RR {
	for i, rr := range rrs {
		if _, ok := rr.(*dns.OPT); ok {
			kept := append([]dns.RR(nil), rrs[:i]...)
			return append(kept, withoutOPT(rrs[i+1:])...)
		}
	}
	return rrs
}

// pack gives the message without its OPT record. The RCODE's upper bits are for that one.
func pack(q *Query, m *dns.Msg) ([]byte, error) {
	out := *m
	out.MsgHdr = dns.MsgHdr{
		Id: q.ID, Response: true, Opcode: q.Opcode, Authoritative: m.Authoritative, Truncated: m.Truncated,
		Rcode: m.Rcode & 0xf,
	}
	if q.Opcode == dns.OpcodeQuery {
		// AD stays clear: nothing here is validated (RFC 4035 section 3.1.6)
		out.RecursionDesired, out.CheckingDisabled = q.RD, q.CD
	}
	out.Question = nil
	if q.asked {
		out.Question = []dns.Question{q.Question}
	}
	out.Compress = true
	wire, err := out.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack a reply: %w", err)
	}
	return wire, nil
}

// header is the reply's header alone.
func header(q *Query, m *dns.Msg) []byte {
	h := make([]byte, headerSize)
	binary.BigEndian.PutUint16(h, q.ID)
	h[2] = bitQR | byte(q.Opcode)<<3&maskOpcode
	h[3] = byte(m.Rcode & 0xf)
	return h
}

// seal appends the OPT record and counts it.
func (e *Edge) seal(q *Query, m *dns.Msg, x Extras, wire []byte, d detail, limit int) []byte {
	if !q.EDNS {
		return wire
	}
	at := len(wire)
	var ttl uint32
	if q.DO {
		ttl = flagDO
	}
	if x.CO {
		ttl |= flagCO
	}
	ttl |= uint32(m.Rcode>>4) << 24
	wire = append(wire, 0)
	wire = binary.BigEndian.AppendUint16(wire, dns.TypeOPT)
	wire = binary.BigEndian.AppendUint16(wire, uint16(e.cfg.MaxUDP))
	wire = binary.BigEndian.AppendUint32(wire, ttl)
	wire = append(wire, 0, 0)
	wire = e.appendOptions(wire, q, x, d)
	if q.Padding {
		wire = pad(wire, x.Reserve, limit)
	}
	binary.BigEndian.PutUint16(wire[at+optSize-2:], uint16(len(wire)-at-optSize))
	binary.BigEndian.PutUint16(wire[10:], uint16(len(m.Extra))+1)
	return wire
}

func (e *Edge) optLen(q *Query, x Extras, d detail) int {
	if !q.EDNS {
		return 0
	}
	var room [plainSize]byte
	return optSize + len(e.appendOptions(room[:0], q, x, d))
}

// appendOptions appends the options but for padding.
func (e *Edge) appendOptions(b []byte, q *Query, x Extras, d detail) []byte {
	if q.cookie != nil {
		b = appendOption(b, dns.EDNS0COOKIE, q.cookie)
	}
	if s := q.subnetOption(x.Scope); s != nil {
		b = appendOption(b, dns.EDNS0SUBNET, s)
	}
	if q.Expire && x.Expire != nil {
		b = appendOption(b, dns.EDNS0EXPIRE, binary.BigEndian.AppendUint32(nil, *x.Expire))
	}
	if q.Keepalive {
		// in units of 100 ms, rounded down: the client should give up first
		units := min(max(x.Idle/(100*time.Millisecond), 0), 0xffff)
		b = appendOption(b, dns.EDNS0TCPKEEPALIVE, binary.BigEndian.AppendUint16(nil, uint16(units)))
	}
	if d == necessary {
		return b
	}
	if q.NSID && e.cfg.ID != "" {
		b = appendOption(b, dns.EDNS0NSID, e.cfg.NSID(x.Version))
	}
	for _, ee := range x.Errors[:min(len(x.Errors), maxErrors)] {
		body := binary.BigEndian.AppendUint16(nil, ee.Code)
		if d == everything {
			body = append(body, Shorten(ee.Text)...)
		}
		b = appendOption(b, dns.EDNS0EDE, body)
	}
	return b
}

func appendOption(b []byte, code uint16, body []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// Shorten cuts an extended error's text to the length that is sent, between characters.
func Shorten(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// pad appends a padding option that brings the message, with what is to follow it, to a multiple of blockSize, or as near
// as the limit lets it. The zeros are RFC 7830 section 3's.
func pad(wire []byte, reserve, limit int) []byte {
	size := len(wire) + optionSize
	if size > limit {
		return wire
	}
	whole := (size + reserve + blockSize - 1) / blockSize * blockSize
	n := min(whole-reserve, limit) - size
	return appendOption(wire, dns.EDNS0PADDING, make([]byte, n))
}
