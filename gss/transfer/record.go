package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/miekg/dns"
)

const (
	headerSize = 12 // RFC 1035 section 4.1.1
	fixedSize  = 10 // of a record: type, class, TTL, length of its data
)

var errMalformed = errors.New("malformed message")

// tsig is a TSIG record (RFC 8945 section 4.2).
type tsig struct {
	name      string // canonical
	algorithm string // canonical
	time      uint64 // seconds since 1970, 48 bits
	fudge     uint16
	mac       []byte
	id        uint16 // of the message when it was signed
	err       uint16
	other     []byte
}

// split takes the TSIG record off a message. msg is what was signed; t is nil if the message has none.
func split(wire []byte) (msg []byte, t *tsig, err error) {
	at, rrtype, err := lastRecord(wire)
	if err != nil || rrtype != dns.TypeTSIG {
		return wire, nil, err
	}
	if t, err = parseTSIG(wire, at); err != nil {
		return nil, nil, err
	}
	msg = bytes.Clone(wire[:at])
	binary.BigEndian.PutUint16(msg, t.id)
	binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])-1)
	return msg, t, nil
}

// lastRecord finds the last record of a message's additional section; type 0 if that is empty.
func lastRecord(wire []byte) (at int, rrtype uint16, err error) {
	if len(wire) < headerSize {
		return 0, 0, errMalformed
	}
	off := headerSize
	for range binary.BigEndian.Uint16(wire[4:]) {
		if off, err = skipName(wire, off); err != nil || off+4 > len(wire) {
			return 0, 0, errMalformed
		}
		off += 4
	}
	for section := 6; section < headerSize; section += 2 {
		rrtype = 0
		for range binary.BigEndian.Uint16(wire[section:]) {
			at = off
			if off, err = skipName(wire, off); err != nil || off+fixedSize > len(wire) {
				return 0, 0, errMalformed
			}
			rrtype = binary.BigEndian.Uint16(wire[off:])
			off += fixedSize + int(binary.BigEndian.Uint16(wire[off+fixedSize-2:]))
			if off > len(wire) {
				return 0, 0, errMalformed
			}
		}
	}
	if off != len(wire) {
		return 0, 0, errMalformed
	}
	return at, rrtype, nil
}

// skipName steps over a name.
func skipName(wire []byte, off int) (int, error) {
	for off < len(wire) {
		switch c := wire[off]; {
		case c == 0:
			return off + 1, nil
		case c >= 0xc0:
			return off + 2, nil
		case c >= 0x40:
			return 0, errMalformed
		default:
			off += 1 + int(c)
		}
	}
	return 0, errMalformed
}

// parseTSIG reads the TSIG record that begins at an offset and ends where the message does.
func parseTSIG(wire []byte, at int) (*tsig, error) {
	name, off, err := dns.UnpackDomainName(wire, at)
	if err != nil || off+fixedSize > len(wire) {
		return nil, errMalformed
	}
	if binary.BigEndian.Uint16(wire[off+2:]) != dns.ClassANY || binary.BigEndian.Uint32(wire[off+4:]) != 0 {
		return nil, errMalformed
	}
	algorithm, off, err := dns.UnpackDomainName(wire, off+fixedSize)
	if err != nil {
		return nil, errMalformed
	}
	t := &tsig{name: dns.CanonicalName(name), algorithm: dns.CanonicalName(algorithm)}
	rest := wire[off:]
	if len(rest) < 10 {
		return nil, errMalformed
	}
	t.time = uint64(binary.BigEndian.Uint16(rest))<<32 | uint64(binary.BigEndian.Uint32(rest[2:]))
	t.fudge = binary.BigEndian.Uint16(rest[6:])
	n := int(binary.BigEndian.Uint16(rest[8:]))
	if rest = rest[10:]; len(rest) < n+6 {
		return nil, errMalformed
	}
	t.mac, rest = bytes.Clone(rest[:n]), rest[n:]
	t.id, t.err = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	n = int(binary.BigEndian.Uint16(rest[4:]))
	if rest = rest[6:]; len(rest) != n {
		return nil, errMalformed
	}
	t.other = bytes.Clone(rest)
	return t, nil
}

// append appends the record to a message and counts it.
func (t *tsig) append(msg []byte) []byte {
	msg = appendName(msg, t.name)
	msg = binary.BigEndian.AppendUint16(msg, dns.TypeTSIG)
	msg = binary.BigEndian.AppendUint16(msg, dns.ClassANY)
	msg = binary.BigEndian.AppendUint32(msg, 0)
	length := len(msg)
	msg = append(msg, 0, 0)
	msg = appendName(msg, t.algorithm)
	msg = t.appendTimers(msg)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(t.mac)))
	msg = append(msg, t.mac...)
	msg = binary.BigEndian.AppendUint16(msg, t.id)
	msg = binary.BigEndian.AppendUint16(msg, t.err)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(t.other)))
	msg = append(msg, t.other...)
	binary.BigEndian.PutUint16(msg[length:], uint16(len(msg)-length-2))
	binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])+1)
	return msg
}

// variables are what is signed of the record itself (RFC 8945 section 4.3.3); of all but the first message of a reply the timers
// alone (section 5.3.1).
func (t *tsig) variables(timersOnly bool) []byte {
	if timersOnly {
		return t.appendTimers(nil)
	}
	b := appendName(nil, t.name)
	b = binary.BigEndian.AppendUint16(b, dns.ClassANY)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = appendName(b, t.algorithm)
	b = t.appendTimers(b)
	b = binary.BigEndian.AppendUint16(b, t.err)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.other)))
	return append(b, t.other...)
}

func (t *tsig) appendTimers(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(t.time>>32))
	b = binary.BigEndian.AppendUint32(b, uint32(t.time))
	return binary.BigEndian.AppendUint16(b, t.fudge)
}

// appendName appends a canonical name in wire form.
func appendName(b []byte, name string) []byte {
	var wire [256]byte
	n, err := dns.PackDomainName(name, wire[:], 0, nil, false)
	if err != nil {
		return append(b, 0) // names here come from messages and configs that were checked
	}
	return append(b, wire[:n]...)
}
