package modeltest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// header is what a source wants in an IP header; the zero value leaves what is not named to chance.
type header struct {
	src, dst netip.Addr
	proto    uint8
	frag     *fragment
	more     bool
	plain    bool // neither options nor extension headers
}

// ip gives an IP packet.
func (s *Source) ip(h header, payload []byte) []byte {
	if h.dst.Is6() {
		return s.ip6(h, payload)
	}
	options := 0
	if !h.plain && s.in(8) {
		options = 4 * (1 + s.IntN(10))
	}
	b := make([]byte, ipLen+options, ipLen+options+len(payload))
	b[0] = 0x40 | byte(5+options/4)
	b[1] = pick(s, classes)
	binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
	binary.BigEndian.PutUint16(b[4:], uint16(s.Uint32()))
	where := uint16(0)
	if s.in(2) {
		where = 0x4000
	}
	if h.frag != nil {
		binary.BigEndian.PutUint16(b[4:], uint16(h.frag.id))
		if where = uint16(h.frag.offset / 8); h.more {
			where |= 0x2000
		}
	}
	binary.BigEndian.PutUint16(b[6:], where)
	b[8], b[9] = pick(s, ttls), h.proto
	copy(b[12:], h.src.AsSlice())
	copy(b[16:], h.dst.AsSlice())
	for i := range options {
		b[ipLen+i] = 1
	}
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, payload...)
}

var (
	classes = []uint8{0, 0, 0x28, 0xb8, 0xb9, 0xba, 0xbb, 1, 2, 3, 0xff}
	ttls    = []uint8{64, 64, 64, 63, 128, 255, 61, 2, 2, 1, 0}
)

func (s *Source) ip6(h header, payload []byte) []byte {
	first, headers := s.headers(h)
	b := binary.BigEndian.AppendUint32(nil, 6<<28|uint32(pick(s, classes))<<20|s.Uint32()&0xfffff)
	b = binary.BigEndian.AppendUint16(b, uint16(len(headers)+len(payload)))
	b = append(b, first, pick(s, ttls))
	b = append(append(b, h.src.AsSlice()...), h.dst.AsSlice()...)
	return append(append(b, headers...), payload...)
}

// headers gives extension headers, the fragment header that is asked for among them, and the number of the first.
func (s *Source) headers(h header) (first uint8, b []byte) {
	n := 0
	switch {
	case h.plain:
	case s.in(25):
		n = 7 + s.IntN(3)
	case s.in(3):
		n = 1 + s.IntN(3)
	}
	kinds := make([]uint8, n, n+2)
	for i := range kinds {
		kinds[i] = pick(s, []uint8{hopByHop, routing, auth, destination, destination, fragmentHeader})
	}
	at := -1
	if h.frag != nil {
		at = s.IntN(n + 1)
		if h.frag.offset != 0 {
			kinds = kinds[:at] // what comes after is the middle of something
		}
		kinds = append(kinds[:at], append([]uint8{fragmentHeader}, kinds[at:]...)...)
	}
	kinds = append(kinds, h.proto)
	for i, kind := range kinds[:len(kinds)-1] {
		one := []byte{kinds[i+1], 0, 0, 0, 0, 0, 0, 0}
		switch {
		case i == at:
			where := uint16(h.frag.offset) | uint16(s.IntN(4))<<1 // two bits are reserved
			if h.more {
				where |= 1
			}
			binary.BigEndian.PutUint16(one[2:], where)
			binary.BigEndian.PutUint32(one[4:], h.frag.id)
		case kind == fragmentHeader: // atomic
			binary.BigEndian.PutUint32(one[4:], s.Uint32())
		case kind == auth:
			one[1] = byte(s.IntN(5))
			one = append(one, make([]byte, 4*int(one[1]))...)
		default:
			one[1] = byte(s.IntN(2) * s.IntN(4))
			one = append(one, make([]byte, 8*int(one[1]))...)
			if kind == routing && s.in(6) {
				one[3] = byte(s.IntN(4))
			}
		}
		b = append(b, one...)
	}
	return kinds[0], b
}

// transport gives a segment, a datagram or something else under a protocol.
func (s *Source) transport(proto uint8, sport, dport uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	if proto == protoTCP {
		b = binary.BigEndian.AppendUint64(b, s.Uint64()) // sequence and acknowledgement
		b = append(b, 0x50, pick(s, []byte{0x02, 0x02, 0x02, 0x12, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14, 0, 0xc2, 0xff, 0x03}))
		b = append(b, 0x02, 0, byte(s.Uint32()), byte(s.Uint32()), 0, 0)
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
		b = append(b, byte(s.Uint32()), byte(s.Uint32()))
	}
	return append(b, payload...)
}

// ethernet puts a packet into a frame.
func (s *Source) ethernet(v6 bool, ip []byte) []byte {
	b := []byte{0, 0, 0x5e, 0, 0x53, 2, 0, 0, 0x5e, 0, 0x53, byte(s.IntN(4))}
	tags := 0
	switch {
	case s.in(30):
		tags = 3
	case s.in(4):
		tags = 1 + s.IntN(2)
	}
	for range tags {
		b = binary.BigEndian.AppendUint16(b, pick(s, []uint16{0x8100, 0x88a8}))
		b = binary.BigEndian.AppendUint16(b, uint16(s.Uint32()))
	}
	kind := uint16(etherIPv4)
	if v6 {
		kind = etherIPv6
	}
	b = append(binary.BigEndian.AppendUint16(b, kind), ip...)
	switch {
	case s.in(8):
		b = append(b, s.payload(1+s.IntN(60))...)
	case len(b) < 60 && s.in(2):
		b = append(b, make([]byte, 60-len(b))...)
	}
	return b
}

// in says yes once in n times.
func (s *Source) in(n int) bool { return s.IntN(n) == 0 }

func pick[T any](s *Source, from []T) T { return from[s.IntN(len(from))] }

// payload gives n bytes.
func (s *Source) payload(n int) []byte {
	at := s.IntN(len(s.noise))
	if at+n > len(s.noise) {
		at = 0
	}
	return s.noise[at : at+n]
}

func noise(rnd *rand.Rand) []byte {
	b := make([]byte, 4096)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}
