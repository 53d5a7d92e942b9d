package message

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

const (
	headerSize = 12 // RFC 1035 section 4.1.1
	maxName    = 255
)

// walker steps through the wire form of a message without giving records a meaning. Its methods say false where the
// message is malformed or ends too early, and must not be called again after that.
type walker struct {
	wire []byte
	off  int
}

// record is where one resource record lies.
type record struct {
	start, end int
	root       bool // its owner is the root, written out
	rrtype     uint16
	class      uint16
	ttl        uint32
	data       []byte
}

// name steps over a name. A pointer must point back into the body; where it leads is for whoever reads the name.
func (w *walker) name(pointers bool) bool {
	begin := w.off
	for w.off < len(w.wire) {
		c := w.wire[w.off]
		switch c & 0xc0 {
		case 0:
			w.off += 1 + int(c)
			if c == 0 {
				return w.off-begin <= maxName
			}
		case 0xc0:
			if !pointers || w.off+2 > len(w.wire) {
				return false
			}
			to := int(binary.BigEndian.Uint16(w.wire[w.off:]) & 0x3fff)
			w.off += 2
			return to >= headerSize && to < begin
		default:
			return false // RFC 6891 section 5: the extended label types are gone
		}
	}
	return false
}

// question steps over a question and says where its type is. Nothing comes before it that its name could point to.
func (w *walker) question() (at int, ok bool) {
	if !w.name(false) || w.off+4 > len(w.wire) {
		return 0, false
	}
	at = w.off
	w.off += 4
	return at, true
}

func (w *walker) record() (record, bool) {
	r := record{start: w.off}
	if !w.name(true) || w.off+10 > len(w.wire) {
		return r, false
	}
	r.root = w.off == r.start+1
	fixed := w.wire[w.off:]
	r.rrtype = binary.BigEndian.Uint16(fixed)
	r.class = binary.BigEndian.Uint16(fixed[2:])
	r.ttl = binary.BigEndian.Uint32(fixed[4:])
	w.off += 10
	r.end = w.off + int(binary.BigEndian.Uint16(fixed[8:]))
	if r.end > len(w.wire) {
		return r, false
	}
	r.data = w.wire[w.off:r.end]
	w.off = r.end
	return r, true
}

// wholeSOA says whether all fields of a SOA record are there: RFC 1035 section 3.3.13.
func (w *walker) wholeSOA(r record) bool {
	in := walker{wire: w.wire[:r.end], off: r.end - len(r.data)}
	for range 2 { // MNAME, RNAME
		if !in.name(true) {
			return false
		}
	}
	return r.end-in.off == 20
}

// wholeTSIG says whether all fields of a TSIG record are there: RFC 8945 section 4.2.
func (w *walker) wholeTSIG(r record) bool {
	in := walker{wire: r.data}
	if !in.name(false) {
		return false
	}
	rest := r.data[in.off:]
	for _, fixed := range []int{8, 4} { // before the MAC and its size, before the other data and its size
		if len(rest) < fixed+2 {
			return false
		}
		n := fixed + 2 + int(binary.BigEndian.Uint16(rest[fixed:]))
		if n > len(rest) {
			return false
		}
		rest = rest[n:]
	}
	return len(rest) == 0
}

// Rcode gives the RCODE of a reply, extended by its OPT record if it has one. It is for metrics, and 0 where the reply is
// malformed.
func Rcode(reply []byte) int {
	if len(reply) < headerSize {
		return 0
	}
	rcode := int(reply[3] & 0xf)
	w := walker{wire: reply, off: headerSize}
	for range binary.BigEndian.Uint16(reply[4:]) {
		if _, ok := w.question(); !ok {
			return 0
		}
	}
	records := 0
	for off := 6; off < headerSize; off += 2 {
		records += int(binary.BigEndian.Uint16(reply[off:]))
	}
	for range records {
		r, ok := w.record()
		if !ok {
			return 0
		}
		if r.rrtype == dns.TypeOPT {
			return int(r.ttl>>24)<<4 | rcode
		}
	}
	return rcode
}
