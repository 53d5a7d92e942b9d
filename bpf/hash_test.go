package bpf

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"anycastle/internal/pkttest"
)

// sipHash is SipHash-c-d written from the paper: the oracle for the one in C.
func sipHash(c, d int, key [16]byte, msg []byte) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])
	v := [4]uint64{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	round := func() {
		v[0] += v[1]
		v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
		v[0] = bits.RotateLeft64(v[0], 32)
		v[2] += v[3]
		v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
		v[0] += v[3]
		v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
		v[2] += v[1]
		v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
		v[2] = bits.RotateLeft64(v[2], 32)
	}
	padded := append(append([]byte{}, msg...), make([]byte, 8-len(msg)%8)...)
	padded[len(padded)-1] = byte(len(msg))
	for ; len(padded) > 0; padded = padded[8:] {
		m := binary.LittleEndian.Uint64(padded)
		v[3] ^= m
		for range c {
			round()
		}
		v[0] ^= m
	}
	v[2] ^= 0xff
	for range d {
		round()
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

func TestOracleAgainstPublishedVector(t *testing.T) {
	// appendix A of "SipHash: a fast short-input PRF"
	msg, err := hex.DecodeString("000102030405060708090a0b0c0d0e")
	put(t, err)
	if got, want := sipHash(2, 4, hashKey, msg), uint64(0xa129ca6149be45e5); got != want {
		t.Fatalf("SipHash-2-4 = %#x, want %#x", got, want)
	}
}

// hashOf computes the hash of a flow as headers/hash.h lays it out.
func hashOf(src, dst netip.AddrPort, proto uint8) uint64 { return hashBy(hashKey, src, dst, proto) }

func hashBy(key [16]byte, src, dst netip.AddrPort, proto uint8) uint64 {
	msg := slices.Concat(src.Addr().AsSlice(), dst.Addr().AsSlice())
	msg = binary.BigEndian.AppendUint16(msg, src.Port())
	msg = binary.BigEndian.AppendUint16(msg, dst.Port())
	return sipHash(1, 3, key, append(msg, proto, 0, 0, 0))
}

// hashOfSource computes the hash of every flow from a prefix.
func hashOfSource(source netip.Prefix) uint64 {
	msg := source.Masked().Addr().AsSlice()
	return sipHash(1, 3, hashKey, append(msg, make([]byte, len(msg)+8)...))
}

// TestSlotOfFlow asks which slot flows are in, and puts another real into the slots that the oracle names.
func TestSlotOfFlow(t *testing.T) {
	r := newRig(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	frames := []made{tcp, udp, tcp6, udp6}
	for range 100 {
		a4, a6, port := client.Addr().As4(), client6.Addr().As16(), uint16(1024+rnd.IntN(60000))
		a4[3], a6[15] = byte(rnd.Uint32()), byte(rnd.Uint32())
		frames = append(frames, func() *pkttest.Frame { return pkttest.New(netip.AddrPortFrom(netip.AddrFrom4(a4), port), vipTCP) },
			func() *pkttest.Frame { return pkttest.New(netip.AddrPortFrom(netip.AddrFrom16(a6), port), vipTCP6) })
	}
	slots := allSlots(mx1Index)
	for _, f := range frames {
		slots[hashOfFrame(f())%Slots] = steady(ipip4b)
	}
	setFarm(t, r.LB, rigFarms-1, slots)
	r.setVIPs(t, steady(ipip4), func(v *VIP) { v.Farm = rigFarms - 1 })
	for _, f := range frames {
		trace, _, err := r.Explain(f().Bytes(t), ingress)
		put(t, err)
		if want := uint32(hashOfFrame(f()) % Slots); trace.Slot != want || trace.Real != mx2Index {
			t.Errorf("in slot %d to real %d, want %d and %d\n%s", trace.Slot, trace.Real, want, mx2Index, pkttest.Decode(f().Bytes(t)))
		}
	}
}

func TestHashKeyDecides(t *testing.T) {
	other := hashKey
	other[15]++
	moved := 0
	for port := range uint16(64) {
		src := netip.AddrPortFrom(client.Addr(), 40000+port)
		if hashBy(hashKey, src, vipTCP, 6)%Slots != hashBy(other, src, vipTCP, 6)%Slots {
			moved++
		}
	}
	if moved < 60 {
		t.Errorf("%d of 64 flows change their slot with the key, want nearly all", moved)
	}
}
