package table

import (
	"encoding/binary"
	"errors"
)

const (
	headerSize = 12  // RFC 1035 section 4.1.1
	maxName    = 255 // RFC 1035 section 2.3.4, with the length octets
	maxLabel   = 63
	classIN    = 1
	typeOPT    = 41
)

// The octets of a header that hold flags.
const (
	bitQR      = 0x80
	maskOpcode = 0x78
	bitAA      = 0x04
	bitTC      = 0x02
	bitRD      = 0x01
	bitCD      = 0x10
	maskRcode  = 0x0f
)

var errShort = errors.New("message ends early")

// plainName gives where the uncompressed name that begins at an offset ends.
func plainName(msg []byte, at int) (end int, ok bool) {
	begin := at
	for at < len(msg) {
		n := int(msg[at])
		at += 1 + n
		switch {
		case n == 0:
			return at, at-begin <= maxName
		case n > maxLabel:
			return 0, false // compressed, or of a kind that nobody has defined
		}
	}
	return 0, false
}

// lowerInto copies a name in wire form with its letters in lower case. Length octets are less than any letter, so they need
// no care. dst is at least as long.
func lowerInto(dst, name []byte) {
	n := len(name)
	if n < 8 {
		for i, b := range name {
			if 'A' <= b && b <= 'Z' {
				b |= 0x20
			}
			dst[i] = b
		}
		return
	}
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(dst[i:], lowerWord(binary.LittleEndian.Uint64(name[i:])))
	}
	// the last eight octets, some of which are done already
	binary.LittleEndian.PutUint64(dst[n-8:], lowerWord(binary.LittleEndian.Uint64(name[n-8:])))
}

// lowerWord does it to eight octets at a time: in the top bit of each, it finds out whether that octet is a letter.
func lowerWord(w uint64) uint64 {
	const each = 0x0101010101010101
	low := w &^ (0x80 * each)
	fromA := low + (0x80-'A')*each
	pastZ := low + (0x7f-'Z')*each
	upper := (fromA ^ pastZ) &^ w & (0x80 * each)
	return w | upper>>2
}

// skipRecord gives where the record that begins at an offset ends, and its type.
func skipRecord(msg []byte, at int) (end int, rrtype uint16, err error) {
	for {
		if at >= len(msg) {
			return 0, 0, errShort
		}
		n := int(msg[at])
		at++
		if n >= 0xc0 { // a pointer ends a name
			at++
			break
		}
		if n > maxLabel {
			return 0, 0, errors.New("name has a label of an unknown kind")
		}
		at += n
		if n == 0 {
			break
		}
	}
	if at+10 > len(msg) {
		return 0, 0, errShort
	}
	rrtype = binary.BigEndian.Uint16(msg[at:])
	end = at + 10 + int(binary.BigEndian.Uint16(msg[at+8:]))
	if end > len(msg) {
		return 0, 0, errShort
	}
	return end, rrtype, nil
}
