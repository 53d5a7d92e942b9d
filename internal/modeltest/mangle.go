package modeltest

import (
	"bytes"
	"slices"
)

// cut gives a frame without its end. The kernel takes no frame shorter than Ethernet's header.
func (s *Source) cut(frame []byte) []byte {
	n := ethLen + s.IntN(len(frame)-ethLen+1)
	if s.in(2) { // within the headers rather than in the payload
		n = ethLen + s.IntN(min(len(frame)-ethLen+1, 120))
	}
	return frame[:n]
}

// fields4 and fields6 are the bytes of IP headers on which something depends, and of what comes right after them.
var (
	fields4 = []int{0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 9, 10, 11, 12, 16, 19, 20, 21, 22, 23, 33}
	fields6 = []int{0, 0, 1, 4, 5, 5, 6, 6, 6, 7, 8, 24, 39, 40, 40, 41, 42, 43, 48, 49, 53}
)

// mangle changes something in a frame.
func (s *Source) mangle(frame []byte) []byte {
	if len(frame) < ethLen+2 {
		return frame
	}
	b := bytes.Clone(frame)
	switch s.IntN(10) {
	case 0: // anything anywhere
		b[s.IntN(len(b))] = byte(s.Uint32())
	case 1:
		b[s.IntN(len(b))] ^= 1 << s.IntN(8)
	case 2: // what decides about the rest
		b[12], b[13] = byte(0x08+s.IntN(2)*0x7e), byte(s.IntN(2)*0xdd)
		if s.in(2) {
			copy(b[12:], pick(s, [][]byte{{0x81, 0}, {0x88, 0xa8}, {0x08, 0x06}, {0, 0x20}}))
		}
	case 3: // a piece more or less
		at := ethLen + s.IntN(len(b)-ethLen)
		if s.in(2) {
			b = slices.Insert(b, at, s.payload(1+s.IntN(8))...)
		} else {
			b = slices.Delete(b, at, min(len(b), at+1+s.IntN(8)))
		}
	case 4: // headers of any layer
		b[s.IntN(min(len(b), 140))] = byte(s.Uint32())
	default:
		s.mangleField(b)
	}
	return b
}

// mangleField changes a field of an IP header: the packet's own, or that of a packet in it.
func (s *Source) mangleField(b []byte) {
	at, v6 := ethLen, be16(b[12:]) == etherIPv6
	for at+tagLen <= len(b) && isTag(be16(b[at-2:])) {
		at += tagLen
		v6 = be16(b[at-2:]) == etherIPv6
	}
	if s.in(4) {
		at += headerLen(v6) + 8
	}
	if v6 {
		at += pick(s, fields6)
	} else {
		at += pick(s, fields4)
	}
	if at >= len(b) {
		return
	}
	switch s.IntN(4) {
	case 0:
		b[at]++
	case 1:
		b[at]--
	case 2:
		b[at] = pick(s, []byte{0, 1, 2, 6, 17, 43, 44, 51, 58, 60, 0x20, 0x40, 0x44, 0x45, 0x46, 0x60, 0x7f, 0x80, 0xff})
	default:
		b[at] = byte(s.Uint32())
	}
}
