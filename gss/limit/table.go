package limit

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A bucket is one word: tag (16 bits), slip counter (4), and the tick at which its debt is paid (44).
const (
	setSize  = 8
	tickBits = 44
	slipBits = 4
	tickMask = 1<<tickBits - 1
	slipMask = 1<<slipBits - 1
	tagShift = tickBits + slipBits

	// tick is the unit of debts. The ticks wrap after 20 days; a bucket that nobody has touched for as long shows a debt
	// for a few minutes that it does not have.
	tick = 100 * time.Nanosecond

	// maxSkew is by how much the clocks of callers may differ, each of which looks at its own once in a batch.
	maxSkew = time.Minute
)

// rate is how fast a bucket may be used.
type rate struct {
	cost  uint64 // ticks of debt that one use adds
	burst uint64 // ticks of debt that are let pass
	most  uint64 // ticks that a debt is bounded by; more than burst where uses that are held back add debt too
	slip  uint64 // each so many-th use that is held back is told; 0 for none
}

// perSecond gives the rate of n uses a second, which may all come at once. penalty is for how long one that does not stop
// is held back when it does; 0 for a rate at which uses that are held back cost nothing.
func perSecond(n int, penalty time.Duration) rate {
	cost := uint64((time.Second + time.Duration(n)*tick - 1) / (time.Duration(n) * tick))
	burst := max(uint64(time.Second/tick), cost)
	return rate{cost: cost, burst: burst, most: burst + uint64(penalty/tick)}
}

// table holds the debts. It is safe for concurrent use.
type table struct {
	sets []set
	mask uint64
}

// set is one cache line.
type set [setSize]atomic.Uint64

func newTable(size int) *table {
	n := size / setSize
	return &table{sets: make([]set, n), mask: uint64(n - 1)}
}

// use books one use of the key's bucket at the tick, and says whether it is over the rate, and then whether it is told.
func (t *table) use(key, now uint64, r *rate) (over, told bool) {
	s := &t.sets[key&t.mask]
	tag := key >> tagShift
	for {
		at, word, debt := s.find(tag, now, r)
		slips := word >> tickBits & slipMask
		if word>>tagShift != tag {
			slips = 0 // those of who had the bucket before
		}
		over = debt+r.cost > r.burst
		told = false
		if over && r.slip > 0 {
			slips++
			if slips >= r.slip {
				slips, told = 0, true
			}
		}
		if !over || r.most > r.burst {
			debt = min(debt+r.cost, r.most)
		} else if r.slip == 0 {
			return over, told // nothing changes
		}
		next := tag<<tagShift | slips<<tickBits | (now+debt)&tickMask
		if s[at].CompareAndSwap(word, next) {
			return over, told
		}
	}
}

// find gives the bucket of the tag, or the one that it takes over: that with the least debt. The debt is as of now.
func (s *set) find(tag, now uint64, r *rate) (at int, word, debt uint64) {
	debt = 1 << 63
	for i := range s {
		w := s[i].Load()
		d := (w - now) & tickMask
		if d > r.most {
			d = r.overdue(d)
		}
		if w>>tagShift == tag {
			return i, w, d
		}
		if d < debt {
			at, word, debt = i, w, d
		}
	}
	return at, word, debt
}

// overdue gives the debt where the difference of two ticks is larger than any: there is none, unless the caller's clock
// is behind that of who booked it.
func (r *rate) overdue(d uint64) uint64 {
	if d <= r.most+uint64(maxSkew/tick) {
		return r.most
	}
	return 0
}

// Seed is what the hashes of a Limiter depend on, so that nobody outside can choose names and networks that share a bucket.
type Seed [4]uint64

// mix folds the product of two numbers.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// key hashes a network, what it is used for, and a name.
func (s *Seed) key(network, use, name uint64) uint64 {
	return mix(mix(network^s[0], name^s[1])^use^s[2], s[3]|1)
}

func (s *Seed) name(name string) uint64 {
	h := s[3] ^ uint64(len(name))
	for len(name) > 0 {
		var chunk uint64
		n := min(len(name), 8)
		for i := range n {
			chunk |= uint64(name[i]) << (8 * i)
		}
		h = mix(h^chunk^s[0], s[1]|1)
		name = name[n:]
	}
	return h
}
