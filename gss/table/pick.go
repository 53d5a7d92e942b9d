package table

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"

	"anycastle/internal/flowhash"
)

// What Hashed knows clients by: their subnets, as long as a resolver should tell of them (RFC 7871 section 11.1).
const (
	hashedBits4 = 24
	hashedBits6 = 56
)

// pick gives the variant of an entry for a query, up to the end of the arena, and how many bits of the client's address
// count besides those of its class.
func (t *Table) pick(entry []byte, c *Client, q *query) (variant []byte, scope int) {
	le := binary.LittleEndian
	n, number := int(le.Uint16(entry[2:])), le.Uint32(entry[4:])
	if n == 1 {
		return entry[entryHead:], 0
	}
	pointers := entry[entryHead : entryHead+pointerSize*n]
	i := 0
	switch Method(entry[0]) {
	case Rotate:
		i = int(t.counters[t.lane(c)*t.stride+int(number)].Add(1) % uint32(n))
	case Weighted:
		i = weighted(pointers, number, uint32(c.Random.Uint64()))
	case Hashed:
		i, scope = t.hashed(pointers, q.client(c))
	}
	return entry[le.Uint32(pointers[pointerSize*i:]):], scope
}

func (t *Table) lane(c *Client) int { return int(uint(c.Lane) % uint(t.cfg.Lanes)) }

// weighted gives the variant that a random number falls to.
func weighted(pointers []byte, sum, random uint32) int {
	x := uint32(uint64(random) * uint64(sum) >> 32) // less than sum
	i := 0
	for binary.LittleEndian.Uint32(pointers[pointerSize*i+4:]) <= x {
		i++
	}
	return i
}

// hashed gives the variant of a client, by weighted rendezvous hashing.
func (t *Table) hashed(pointers []byte, client netip.Addr) (won, scope int) {
	scope = hashedBits6
	if client.Is4() {
		scope = hashedBits4
	}
	subnet, _ := client.WithZone("").Prefix(scope) // no error: the length is one that the family has
	h := flowhash.OfSource(t.cfg.Key, subnet)
	best := math.Inf(1)
	for i := range len(pointers) / pointerSize {
		p := pointers[pointerSize*i:]
		weight := binary.LittleEndian.Uint32(p[4:])
		if weight == 0 {
			continue
		}
		// a number within 0 and 1, both excluded: minus its logarithm is distributed as an exponential of rate 1
		u := (float64(mix(h^binary.LittleEndian.Uint64(p[8:]))>>11) + 0.5) / (1 << 53)
		if s := -math.Log(u) / float64(weight); s < best {
			won, best = i, s
		}
	}
	return won, scope
}

// mix spreads each bit of x over all of the result: two rounds of a 128-bit product.
func mix(x uint64) uint64 {
	hi, lo := bits.Mul64(x^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	x = hi ^ lo
	hi, lo = bits.Mul64(x^0xa0761d6478bd642f, 0xe7037ed1a0b428db)
	return hi ^ lo
}

// keyHash is FNV-1a, mixed. It need not be keyed: the keys of variants are the operator's.
func keyHash(key string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 0x100000001b3
	}
	return mix(h)
}

// PickHashed gives the place of the key that Hashed picks for a client among keys with weights, one of which is not 0.
func PickHashed(key flowhash.Key, client netip.Addr, keys []string, weights []uint32) int {
	pointers := make([]byte, pointerSize*len(keys))
	for i := range keys {
		binary.LittleEndian.PutUint32(pointers[pointerSize*i+4:], weights[i])
		binary.LittleEndian.PutUint64(pointers[pointerSize*i+8:], keyHash(keys[i]))
	}
	won, _ := (&Table{cfg: Config{Key: key}}).hashed(pointers, client.Unmap())
	return won
}
