package bpf

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"math/rand/v2"
	"net/netip"
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

// slotOf computes the slot of a flow as headers/hash.h lays it out.
func slotOf(key [16]byte, src, dst netip.AddrPort, proto uint8) uint32 {
	s, d := src.Addr().As4(), dst.Addr().As4()
	msg := append(append([]byte{}, s[:]...), d[:]...)
	msg = binary.BigEndian.AppendUint16(msg, src.Port())
	msg = binary.BigEndian.AppendUint16(msg, dst.Port())
	msg = append(msg, proto, 0, 0, 0)
	return uint32(sipHash(1, 3, key, msg)) % Slots
}

// TestSlotOfFlow puts mx2 into the one slot that the oracle names, so that only the right slot leads there.
func TestSlotOfFlow(t *testing.T) {
	lb := newLB(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(rnd.Uint32())}), uint16(1024+rnd.IntN(60000)))
		slots := allSlots(mx1Index)
		slots[slotOf(hashKey, src, vipTCP, 6)] = Slot{Primary: mx2Index, Secondary: mx2Index}
		setTable(t, lb, slots)
		verdict, _, err := lb.prog.Test(pkttest.New(src, vipTCP).Bytes(t))
		put(t, err)
		if verdict != xdpRedirect {
			t.Errorf("flow from %v is not in slot %d", src, slotOf(hashKey, src, vipTCP, 6))
		}
	}
}

func TestHashKeyDecides(t *testing.T) {
	other := hashKey
	other[15]++
	moved := 0
	for port := range uint16(64) {
		src := netip.AddrPortFrom(client.Addr(), 40000+port)
		if slotOf(hashKey, src, vipTCP, 6) != slotOf(other, src, vipTCP, 6) {
			moved++
		}
	}
	if moved < 60 {
		t.Errorf("%d of 64 flows change their slot with the key, want nearly all", moved)
	}
}
