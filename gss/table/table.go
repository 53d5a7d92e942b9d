package table

import (
	"encoding/binary"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"unsafe"
)

// Cookies makes and checks DNS cookies (RFC 7873, RFC 9018). It is called by several goroutines at once and must not keep
// what it is given.
type Cookies interface {
	// Append appends to dst the data of the reply's COOKIE option: the client cookie, which is the first 8 octets of cookie,
	// and a server cookie for the client; at most 40 octets. It says whether cookie held a server cookie that is good for
	// this client now. cookie is that of the query: 8 octets, or 16 to 40. now is the Unix time, modulo 2^32.
	Append(dst, cookie []byte, client netip.Addr, now uint32) (reply []byte, good bool)
}

// Client is who asks, and what a reader keeps from query to query. It is for one goroutine.
type Client struct {
	Addr   netip.Addr
	Now    uint32   // the Unix time, modulo 2^32; for cookies
	NSID   []byte   // of the server, for who asks; at most MaxOptions octets; empty: none
	Lane   int      // the number of the reader, less than Config.Lanes
	Random rand.PCG // for Weighted

	// Known says, after Answer has given a reply, that the query had a good server cookie: it comes from where it says.
	Known bool

	query   query
	name    [maxName]byte // of the query, in lower case
	options [512]byte     // of the reply
}

// Table answers queries. It is immutable but for the counters of rotations, and for any number of goroutines.
type Table struct {
	cfg      Config
	seed     maphash.Seed
	slots    []slot // a power of two of them
	arena    []byte // see layout.go
	sets     int
	counters []atomic.Uint32 // of Rotate, for each lane
	stride   int             // counters of a lane
}

// Len gives how many pairs of a name and a type have entries.
func (t *Table) Len() int { return t.sets }

// Size gives the octets of memory that the table takes, besides its Config.
func (t *Table) Size() int {
	return len(t.arena) + len(t.slots)*int(unsafe.Sizeof(slot{})) + len(t.counters)*int(unsafe.Sizeof(atomic.Uint32{}))
}

// Answer puts the reply to a query over UDP into dst and gives its length. Without ok the query is not answered, which is
// the slow path's to do, and dst is of no use. dst should have room for Config.MaxUDP octets: with less, a reply that does
// not fit is not given. It must not overlap query.
func (t *Table) Answer(dst, query []byte, c *Client) (n int, ok bool) {
	q := &c.query
	q.opt, q.do, q.nsid, q.cookie, q.subnet.data = false, false, false, nil, nil
	c.Known = false
	if !q.parse(query) {
		return 0, false
	}
	q.ourSize = uint16(t.cfg.MaxUDP)
	q.size = min(q.size, t.cfg.MaxUDP)
	if t.cfg.NoSubnets {
		q.subnet.data = nil
	}
	name := c.name[:len(q.name)]
	lowerInto(name, q.name)
	set := t.find(name, q.qtype)
	if set == nil {
		return 0, false
	}
	entry, classBits := t.entryOf(set, c, q)
	if entry == nil {
		return 0, false
	}
	variant, hashedBits := t.pick(entry, c, q)
	m, body, extra := q.form(variant)
	options := extra
	if q.opt {
		options = t.options(extra, c, max(classBits, hashedBits))
	}
	if t.cfg.RequireCookie && !c.Known {
		return 0, false
	}
	return q.reply(dst, query, m, body, options, len(extra) > 0)
}

// client is whose class and subnet count.
func (q *query) client(c *Client) netip.Addr {
	if q.subnet.data != nil && q.subnet.bits > 0 {
		return q.subnet.addr
	}
	return c.Addr.Unmap()
}

// form gives the message of a variant that the query is for, and its options.
func (q *query) form(variant []byte) (m message, body, options []byte) {
	m = readMessage(variant)
	n := int(binary.LittleEndian.Uint16(variant[2*messageSize:]))
	options, rest := variant[variantHead:variantHead+n], variant[variantHead+n:]
	if q.do {
		if signed := readMessage(variant[messageSize:]); signed.length > 0 {
			return signed, rest[m.length:][:signed.length], options
		}
	}
	return m, rest[:m.length], options
}

// options gives the options of the reply's OPT: those that the query asks for, and the variant's.
func (t *Table) options(extra []byte, c *Client, scope int) []byte {
	be, q := binary.BigEndian, &c.query
	if q.cookie == nil && q.subnet.data == nil && !q.nsid {
		return extra
	}
	out := t.necessary(c.options[:0], c, scope)
	if q.nsid && len(c.NSID) > 0 {
		out = be.AppendUint16(be.AppendUint16(out, optionNSID), uint16(len(c.NSID)))
		out = append(out, c.NSID...)
	}
	return append(out, extra...)
}

// necessary appends the options that the client's next query hangs on, and says in Known whether its cookie was good.
func (t *Table) necessary(out []byte, c *Client, scope int) []byte {
	be, q := binary.BigEndian, &c.query
	if q.cookie != nil && t.cfg.Cookies != nil {
		out = be.AppendUint16(be.AppendUint16(out, optionCookie), 0)
		at := len(out)
		out, c.Known = t.cfg.Cookies.Append(out, q.cookie, c.Addr, c.Now)
		be.PutUint16(out[at-2:], uint16(len(out)-at))
	}
	if q.subnet.data != nil {
		out = be.AppendUint16(be.AppendUint16(out, optionSubnet), uint16(len(q.subnet.data)))
		at := len(out)
		out = append(out, q.subnet.data...)
		if q.subnet.bits > 0 {
			out[at+3] = byte(scope)
		}
	}
	return out
}

// Slip puts the least reply to a query that Answer has just answered into dst in place of that one, and gives its length: it
// is truncated, so that a client which is who it seems asks again over TCP. dst should have room for 512 octets.
func (t *Table) Slip(dst, query []byte, c *Client) int {
	var options []byte
	if c.query.opt {
		options = t.necessary(c.options[:0], c, 0)
	}
	n, _ := c.query.reply(dst, query, message{flags: [2]byte{bitTC, 0}}, nil, options, false)
	return n
}

const optHead = 11 // octets of an OPT before its options

// reply puts the reply together: in whole, without its additional section, or with nothing but the question and TC. The
// slow path does it where there is something else to leave out: options of the variant, or some of a referral's glue.
func (q *query) reply(dst, query []byte, m message, body, options []byte, whole bool) (n int, ok bool) {
	optSize := 0
	if q.opt {
		optSize = optHead + len(options)
	}
	tc := byte(0)
	switch rest := min(q.size, len(dst)) - q.end - optSize; {
	case int(m.length) <= rest:
	case len(dst) < q.size: // it is not the client that has no room
		return 0, false
	case whole, m.flags[0]&bitAA == 0:
		return 0, false
	case int(m.essential) <= rest:
		body, m.additional = body[:m.essential], 0
	case rest >= 0:
		body, m.answers, m.authority, m.additional, tc = nil, 0, 0, 0, bitTC
	default:
		return 0, false
	}
	n = copy(dst, query[:q.end])
	dst[2] = bitQR | m.flags[0] | tc | query[2]&bitRD
	dst[3] = m.flags[1] | query[3]&bitCD
	be := binary.BigEndian
	be.PutUint16(dst[6:], m.answers)
	be.PutUint16(dst[8:], m.authority)
	be.PutUint16(dst[10:], m.additional)
	n += copy(dst[n:], body)
	if !q.opt {
		return n, true
	}
	be.PutUint16(dst[10:], m.additional+1)
	opt := dst[n : n+optSize]
	opt[0] = 0
	be.PutUint16(opt[1:], typeOPT)
	be.PutUint16(opt[3:], q.ourSize)
	be.PutUint32(opt[5:], 0)
	if q.do {
		opt[7] = 0x80
	}
	be.PutUint16(opt[9:], uint16(len(options)))
	copy(opt[optHead:], options)
	return n + optSize, true
}

// Name is the name that the last query asked for, in wire form and lower case. It holds until the next.
func (c *Client) Name() []byte { return c.name[:len(c.query.name)] }
