package lb

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// logTable holds log2 of 1 to 2 in steps of 1/1024, in units of 2^-32. It is computed with integers alone: every LB of
// a site has the same bits, whatever its processor's floating point does.
type logTable [1<<logBits + 1]uint64

const logBits = 10

func newLogTable() *logTable {
	t := new(logTable)
	for i := range t[:1<<logBits] {
		x := uint64(1<<63) + uint64(i)<<(63-logBits) // in [1, 2), with 63 bits after the point
		for bit := uint64(1 << 31); bit > 0; bit >>= 1 {
			hi, lo := bits.Mul64(x, x) // squaring doubles the logarithm: its next bit is whether that passes 2
			if hi>>63 == 1 {
				t[i] |= bit
				x = hi
			} else {
				x = hi<<1 | lo>>63
			}
		}
	}
	t[1<<logBits] = 1 << 32
	return t
}

// exponential turns a uniform v into an exponentially distributed number, -log2(1 - v/2^64), in units of 2^-32.
func (t *logTable) exponential(v uint64) uint64 {
	u := ^v
	if u == 0 {
		return 64 << 32
	}
	zeros := bits.LeadingZeros64(u)
	u <<= zeros + 1 // drops the leading one
	i, rest := u>>(64-logBits), u<<logBits>>32
	log := t[i] + (t[i+1]-t[i])*rest>>32
	return uint64(zeros+1)<<32 - log
}

// contender is a real on one side of a slot table: as primary or as secondary.
type contender struct {
	addr   netip.Addr
	index  uint16
	weight uint32 // more than 0

	seed    uint64
	keys    [5]uint16 // of place
	inverse uint64    // of the weight, in units of 2^-48
	least   uint64    // with it, atLeast needs one multiplication
}

const (
	// log2e is log2(e) in units of 2^-16, rounded down: -log2(1-v) is at least v times that.
	log2e = 94548
	// leastWeight keeps the inverse small enough for a product of 64 bits.
	leastWeight = 512
)

func newContender(addr netip.Addr, index uint16, weight uint32) contender {
	a := addr.As16()
	c := contender{addr: addr, index: index, weight: max(weight, leastWeight)}
	c.seed = mix(binary.BigEndian.Uint64(a[:8])) ^ mix(^binary.BigEndian.Uint64(a[8:]))
	k, l := mix(c.seed), mix(^c.seed)
	c.keys = [5]uint16{uint16(k), uint16(k>>16) | 1, uint16(k>>32) | 1, uint16(k>>48) | 1, uint16(l)}
	c.inverse = 1 << 48 / uint64(c.weight)
	c.least = log2e * c.inverse >> 16
	return c
}

// place is a permutation of the slots, another one for each real. It is what makes shares even: whatever the others do,
// a real meets every degree of luck equally often.
func (c *contender) place(slot uint16) uint16 {
	x := slot ^ c.keys[0]
	x *= c.keys[1]
	x ^= x >> 8
	x *= c.keys[2]
	x ^= x >> 7
	x *= c.keys[3]
	x ^= x >> 9
	return x + c.keys[4]
}

// atLeast is a bound that score cannot fall below, and much cheaper.
func (c *contender) atLeast(place uint16) uint64 { return uint64(place) * c.least }

// luck is what a contender draws for a slot: exponentially distributed, the same whatever its weight. salt is mix of
// the slot.
func (c *contender) luck(logs *logTable, place uint16, salt uint64) uint64 {
	return logs.exponential(uint64(place)<<48 | mix(c.seed^salt)>>16)
}

// score is luck over weight: the least of all contenders takes the slot.
func (c *contender) score(luck uint64) uint64 {
	hi, lo := bits.Mul64(luck, c.inverse)
	return hi<<48 | lo>>16
}

func salt(slot int) uint64 { return mix(uint64(slot) + 1) }

// mix is the finalizer of SplitMix64: a bijection in which every input bit changes half of the output bits.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
