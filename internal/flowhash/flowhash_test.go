package flowhash

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"net/netip"
	"testing"
)

// TestKnownAnswers compares with CPython 3.11, whose hash of bytes is SipHash-1-3: the key is what PYTHONHASHSEED of 0, 1
// and 4711 makes of itself, the message is packed by its socket and struct modules.
func TestKnownAnswers(t *testing.T) {
	keys := []string{"00000000000000000000000000000000", "2923be84e16cd6ae529049f1f1bbe9eb", "3e0696e4ef1d1265c8b90b54aa4706b3"}
	for _, tc := range []struct {
		src, dst string // dst empty: by source prefix
		proto    uint8
		want     [3]uint64
	}{
		{"192.0.2.7:40000", "203.0.113.25:25", 6, [3]uint64{0x86f2fe8dbbfcb5b9, 0xbce075f754638ac2, 0x7f657ff45bb8f355}},
		{"198.51.100.255:65535", "203.0.113.25:53", 17, [3]uint64{0x0496f2130faca1d8, 0x75ea5f9fe9c7c7a3, 0x953b2f73e7018a22}},
		{"[2001:db8::7]:40000", "[2001:db8:1::25]:25", 6, [3]uint64{0x5e993b7e1d58cab1, 0x332271dccef770d9, 0xcfa1d4281010ad39}},
		{"[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:1", "[2001:db8:1::25]:143", 6,
			[3]uint64{0x4b685013b23a167f, 0xdb168ee36233dd10, 0x662459782d6190f0}},
		{"192.0.2.77/24", "", 0, [3]uint64{0xec58c1ff1a2a14b3, 0x2b649c55aedb05b6, 0x822121392e0df827}},
		{"2001:db8:0:ffff::1/56", "", 0, [3]uint64{0x43d5d8c2811da6f7, 0x6408e3afc2300784, 0x0f157cc7e8b18c1a}},
	} {
		for i, text := range keys {
			key := keyOf(t, text)
			var got uint64
			if tc.dst == "" {
				got = OfSource(key, netip.MustParsePrefix(tc.src))
			} else {
				got = Of(key, netip.MustParseAddrPort(tc.src), netip.MustParseAddrPort(tc.dst), tc.proto)
			}
			if got != tc.want[i] {
				t.Errorf("%s to %s with key %s: %016x, want %016x", tc.src, tc.dst, text, got, tc.want[i])
			}
		}
	}
}

func keyOf(t *testing.T, text string) Key {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return Key(b)
}

func TestSlot(t *testing.T) {
	for hash, want := range map[uint64]uint32{0: 0, 0xffff: 0xffff, 0x10000: 0, 0x86f2fe8dbbfcb5b9: 0xb5b9} {
		if got := Slot(hash); got != want {
			t.Errorf("slot of %#x is %#x, want %#x", hash, got, want)
		}
	}
}

// reference is SipHash-c-d over any message, as the paper describes it and with no eye to speed.
func reference(c, d int, key Key, msg []byte) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])
	v := []uint64{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	mix := func(a, b, rotate int, swap bool) {
		v[a] += v[b]
		v[b] = bits.RotateLeft64(v[b], rotate) ^ v[a]
		if swap {
			v[a] = bits.RotateLeft64(v[a], 32)
		}
	}
	rounds := func(n int) {
		for range n {
			mix(0, 1, 13, true)
			mix(2, 3, 16, false)
			mix(0, 3, 21, false)
			mix(2, 1, 17, true)
		}
	}
	padded := make([]byte, len(msg)/8*8+8)
	copy(padded, msg)
	padded[len(padded)-1] = byte(len(msg))
	for i := 0; i < len(padded); i += 8 {
		m := binary.LittleEndian.Uint64(padded[i:])
		v[3] ^= m
		rounds(c)
		v[0] ^= m
	}
	v[2] ^= 0xff
	rounds(d)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

// TestReference holds the reference itself to appendix A of the paper and to CPython's answers for odd lengths.
func TestReference(t *testing.T) {
	msg := make([]byte, 63)
	for i := range msg {
		msg[i] = byte(i)
	}
	if got := reference(2, 4, Key(msg[:16]), msg[:15]); got != 0xa129ca6149be45e5 {
		t.Errorf("SipHash-2-4 of the paper's message is %016x", got)
	}
	key := keyOf(t, "3e0696e4ef1d1265c8b90b54aa4706b3")
	for n, want := range map[int]uint64{1: 0x45e8aedb829392e6, 7: 0x3990ca76319e0858, 8: 0xb19e59eaf2bc3c22, 9: 0xc4d687976a3f24f4,
		15: 0xa992d7421f616793, 16: 0x3294f72ea83895d8, 63: 0xf7d3a7c86255326a} {
		if got := reference(1, 3, key, msg[:n]); got != want {
			t.Errorf("SipHash-1-3 of %d bytes is %016x, want %016x", n, got, want)
		}
	}
}

// FuzzHash compares with the reference over the message laid out byte by byte.
func FuzzHash(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("192.0.2.7 and 2001:db8::7 and so on"), uint16(40000), uint16(25), uint8(6), uint8(24))
	f.Add(make([]byte, 16), make([]byte, 32), uint16(0), uint16(0), uint8(0), uint8(0))
	f.Add(make([]byte, 16), make([]byte, 32), uint16(65535), uint16(65535), uint8(255), uint8(128))
	f.Fuzz(func(t *testing.T, key, addresses []byte, sport, dport uint16, proto, length uint8) {
		if len(key) < 16 || len(addresses) < 32 {
			return
		}
		k := Key(key[:16])
		ports := []byte{byte(sport >> 8), byte(sport), byte(dport >> 8), byte(dport), proto, 0, 0, 0}
		for _, n := range []int{4, 16} {
			src, _ := netip.AddrFromSlice(addresses[:n])
			dst, _ := netip.AddrFromSlice(addresses[n : 2*n])
			want := reference(1, 3, k, append(append([]byte{}, addresses[:2*n]...), ports...))
			if got := Of(k, netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport), proto); got != want {
				t.Errorf("%v:%d to %v:%d/%d: %016x, want %016x", src, sport, dst, dport, proto, got, want)
			}
			msg := make([]byte, 2*n+8)
			keep := int(length) % (8*n + 1)
			for i := range keep {
				msg[i/8] |= addresses[i/8] & (0x80 >> (i % 8))
			}
			want = reference(1, 3, k, msg)
			if got := OfSource(k, netip.PrefixFrom(src, keep)); got != want {
				t.Errorf("from %v/%d: %016x, want %016x", src, keep, got, want)
			}
		}
	})
}

func BenchmarkOf(b *testing.B) {
	src, dst := netip.MustParseAddrPort("192.0.2.7:40000"), netip.MustParseAddrPort("203.0.113.25:25")
	b.ReportAllocs()
	for b.Loop() {
		Of(Key{}, src, dst, 6)
	}
}
