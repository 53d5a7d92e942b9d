package table

import (
	"encoding/binary"
	"net/netip"
)

const (
	plainSize   = 512  // of a UDP reply without EDNS (RFC 1035 section 4.2.1); no OPT makes it smaller (RFC 6891 section 6.2.3)
	defaultSize = 1232 // of a UDP reply with it: fits IPv6's smallest MTU, so no reply is ever a fragment
	largestSize = 4096
)

// EDNS options, by IANA's register.
const (
	optionNSID   = 3
	optionSubnet = 8
	optionExpire = 9
	optionCookie = 10
)

// What a cookie may be long: RFC 7873 section 5.2.2.
const (
	clientCookie    = 8
	minServerCookie = 8
	maxServerCookie = 32
)

// query is what a message asks for, and how. Its slices are parts of the message.
type query struct {
	end   int // where the question ends
	name  []byte
	qtype uint16

	opt    bool
	do     bool
	nsid   bool
	size   int    // that the reply may have, for all that the client says
	cookie []byte // nil: none
	subnet subnet

	ourSize uint16 // what the reply's OPT says
}

// subnet is a client subnet of RFC 7871.
type subnet struct {
	data []byte // of the option, as it came; nil: there is none
	addr netip.Addr
	bits int
}

// flagsClear says whether the second half of a header's first word has no more than RD set, and bits that mean nothing in a
// query: RA, Z, AD and CD. AA, TC and a response code in a query are odd enough for the slow path.
func flagsClear(msg []byte) bool { return msg[2]&^bitRD == 0 && msg[3]&maskRcode == 0 }

// parse takes a message apart. It says no if the message is not one that this package answers.
func (q *query) parse(msg []byte) bool {
	if len(msg) < headerSize+5 || !flagsClear(msg) {
		return false
	}
	// one question, no answers, no authorities, and one additional record or none
	counts := binary.BigEndian.Uint64(msg[4:])
	if counts&^1 != 1<<48 {
		return false
	}
	end, ok := plainName(msg, headerSize)
	if !ok || end+4 > len(msg) || binary.BigEndian.Uint16(msg[end+2:]) != classIN {
		return false
	}
	q.name, q.qtype, q.end = msg[headerSize:end], binary.BigEndian.Uint16(msg[end:]), end+4
	q.size = plainSize
	if counts&1 == 0 {
		return q.end == len(msg)
	}
	return q.parseOPT(msg[q.end:])
}

// parseOPT takes the only record after the question, which is all that is left of the message.
func (q *query) parseOPT(rr []byte) bool {
	const fixed = 11 // the root's name and what comes before the options: RFC 6891 section 6.1.2
	if len(rr) < fixed || rr[0] != 0 || binary.BigEndian.Uint16(rr[1:]) != typeOPT {
		return false
	}
	// no extended response code, version 0
	if rr[5] != 0 || rr[6] != 0 || int(binary.BigEndian.Uint16(rr[9:])) != len(rr)-fixed {
		return false
	}
	q.opt = true
	q.do = rr[7]&0x80 != 0
	q.size = max(int(binary.BigEndian.Uint16(rr[3:])), plainSize)
	for rest := rr[fixed:]; len(rest) > 0; {
		if len(rest) < 4 {
			return false
		}
		code, n := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		if 4+n > len(rest) {
			return false
		}
		if !q.parseOption(code, rest[4:4+n:4+n]) {
			return false
		}
		rest = rest[4+n:]
	}
	return true
}

func (q *query) parseOption(code uint16, data []byte) bool {
	switch code {
	case optionNSID:
		q.nsid = true
		return len(data) == 0 // RFC 5001 section 2.1
	case optionCookie:
		if q.cookie != nil {
			return true // all but the first are ignored: RFC 7873 section 5.2
		}
		q.cookie = data
		n := len(data) - clientCookie
		return n == 0 || n >= minServerCookie && n <= maxServerCookie
	case optionExpire:
		return false // the slow path knows how long a zone is good (RFC 7314)
	case optionSubnet:
		return q.subnet.data == nil && q.subnet.parse(data)
	}
	return true // RFC 6891 section 6.1.2: unknown ones are ignored
}

// parse takes the data of a client subnet: RFC 7871 section 6. Bits of the address after the prefix must be 0, and so must be
// the scope, in a query.
func (s *subnet) parse(data []byte) bool {
	if len(data) < 4 || data[3] != 0 {
		return false
	}
	family, bits, addr := binary.BigEndian.Uint16(data), int(data[2]), data[4:]
	if len(addr) != (bits+7)/8 || bits%8 != 0 && addr[len(addr)-1]<<(bits%8) != 0 {
		return false
	}
	var full [16]byte
	switch {
	case family == 1 && bits <= 32:
		copy(full[:4], addr)
		s.addr = netip.AddrFrom4([4]byte(full[:4]))
	case family == 2 && bits <= 128:
		copy(full[:], addr)
		if s.addr = netip.AddrFrom16(full); s.addr.Is4In6() {
			return false // of which family would the scope be?
		}
	default:
		return false
	}
	s.data, s.bits = data, bits
	return true
}
