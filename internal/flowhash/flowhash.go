package flowhash

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Key is the key of the hash, shared by the balancers of a site.
type Key [16]byte

// Slots is how many slots a farm's table has.
const Slots = 65536

// Slot gives the slot of a hash.
func Slot(hash uint64) uint32 { return uint32(hash % Slots) }

// Of gives the hash of a flow. Both addresses are IPv4, or both are IPv6; IPv4 within IPv6 counts as IPv6.
func Of(key Key, src, dst netip.AddrPort, proto uint8) uint64 {
	// what follows the addresses: both ports in network order, the protocol, and three zeros
	var tail [8]byte
	binary.BigEndian.PutUint16(tail[0:], src.Port())
	binary.BigEndian.PutUint16(tail[2:], dst.Port())
	tail[4] = proto
	return sum(key, src.Addr(), dst.Addr(), binary.LittleEndian.Uint64(tail[:]))
}

// OfSource gives the hash of all flows from the addresses in a prefix. The prefix's own bits past its length count not.
func OfSource(key Key, source netip.Prefix) uint64 {
	source = source.Masked()
	none := netip.IPv6Unspecified()
	if source.Addr().Is4() {
		none = netip.IPv4Unspecified()
	}
	return sum(key, source.Addr(), none, 0)
}

// sum gives the SipHash-1-3 of the message {src, dst, tail}: 16 bytes for IPv4 and 40 for IPv6.
func sum(key Key, src, dst netip.Addr, tail uint64) uint64 {
	s := begin(key)
	if src.Is4() {
		a, b := src.As4(), dst.As4()
		s.word(uint64(binary.LittleEndian.Uint32(b[:]))<<32 | uint64(binary.LittleEndian.Uint32(a[:])))
		s.word(tail)
		return s.end(16)
	}
	for _, a := range [2][16]byte{src.As16(), dst.As16()} {
		s.word(binary.LittleEndian.Uint64(a[:8]))
		s.word(binary.LittleEndian.Uint64(a[8:]))
	}
	s.word(tail)
	return s.end(40)
}

// state is SipHash's, by the names in "SipHash: a fast short-input PRF" (Aumasson, Bernstein 2012).
type state struct{ v0, v1, v2, v3 uint64 }

func begin(key Key) state {
	k0, k1 := binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])
	return state{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
}

// word takes in eight bytes of the message: one round each.
func (s *state) word(m uint64) {
	s.v3 ^= m
	s.round()
	s.v0 ^= m
}

// end takes in the last word, which holds nothing but the length here, and finishes with three rounds.
func (s *state) end(length uint64) uint64 {
	s.word(length << 56)
	s.v2 ^= 0xff
	s.round()
	s.round()
	s.round()
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}

func (s *state) round() {
	s.v0 += s.v1
	s.v2 += s.v3
	s.v1 = bits.RotateLeft64(s.v1, 13) ^ s.v0
	s.v3 = bits.RotateLeft64(s.v3, 16) ^ s.v2
	s.v0 = bits.RotateLeft64(s.v0, 32)
	s.v2 += s.v1
	s.v0 += s.v3
	s.v1 = bits.RotateLeft64(s.v1, 17) ^ s.v2
	s.v3 = bits.RotateLeft64(s.v3, 21) ^ s.v0
	s.v2 = bits.RotateLeft64(s.v2, 32)
}
