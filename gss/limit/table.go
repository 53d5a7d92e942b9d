package limit

import (
	"math/bits"
	"sync"
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

	// tick is the unit of debts. The ticks wrap after 20 days.
	tick = 100 * time.Nanosecond

	// epochBits gives the ticks after which buckets are swept, 61 hours: an eighth of those that wrap, so that what is in
	// a bucket is always clearly past or clearly to come.
	epochBits = tickBits - 3

	// stretchSize is how many sets are swept at once, in some 10 µs.
	stretchSize = 1 << 10

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
	sets      []set
	mask      uint64
	stretches []stretch
}

// set is one cache line.
type set [setSize]atomic.Uint64

// stretch is a part of the sets, which is swept by who comes first in an epoch.
type stretch struct {
	epoch atomic.Uint64 // that it has been swept for
	mu    sync.Mutex    // held while it is
}

func newTable(size int) *table {
	n := size / setSize
	return &table{sets: make([]set, n), mask: uint64(n - 1), stretches: make([]stretch, (n+stretchSize-1)/stretchSize)}
}

// use books one use of the key's bucket at the tick, and says whether it is over the rate, and then whether it is told.
func (t *table) use(key, now uint64, r *rate) (over, told bool) {
	i := key & t.mask
	if epoch := now >> epochBits; t.stretches[i/stretchSize].epoch.Load() < epoch {
		t.sweep(i/stretchSize, epoch, now)
	}
	s := &t.sets[i]
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

// sweep empties the buckets of a stretch that owe nothing. Who is late by no more than maxSkew finds all that it needs.
func (t *table) sweep(number, epoch, now uint64) {
	st := &t.stretches[number]
	st.mu.Lock()
	defer st.mu.Unlock()
	was := st.epoch.Load()
	if was >= epoch {
		return // somebody else has done it meanwhile
	}
	first := number * stretchSize
	for i := first; i < min(first+stretchSize, uint64(len(t.sets))); i++ {
		for j := range t.sets[i] {
			w := t.sets[i][j].Load()
			// what nobody has used for a whole epoch was paid long ago, and what it holds may look like anything
			if epoch-was > 1 || past(w-now+uint64(maxSkew/tick)) {
				t.sets[i][j].CompareAndSwap(w, 0)
			}
		}
	}
	st.epoch.Store(epoch)
}

// past says whether the difference of two ticks is below 0.
func past(d uint64) bool { return d&tickMask > tickMask/2 }

// find gives the bucket of the tag, or the one that it takes over: that with the least debt. The debt is as of now.
func (s *set) find(tag, now uint64, r *rate) (at int, word, debt uint64) {
	debt = 1 << 63
	for i := range s {
		w := s[i].Load()
		d := (w - now) & tickMask
		if d > r.most || w == 0 {
			d = r.unusual(w, d)
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

// unusual gives the debt of a bucket that is empty, or where the difference of two ticks is larger than any debt: there is
// none, unless the caller's clock is behind that of who booked it.
func (r *rate) unusual(word, d uint64) uint64 {
	if word == 0 || past(d) {
		return 0
	}
	return r.most
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
