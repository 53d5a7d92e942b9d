package limit

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Reason says which limit held something back; its String is a label for metrics.
type Reason uint8

// The reasons.
const (
	Dropped           Reason = iota // a reply that was not sent
	Slipped                         // a reply that was sent truncated
	UDPQuery                        // a query beyond the queries a second
	TCPQuery                        // the same over TCP or TLS
	Connection                      // a connection beyond those of all
	NetworkConnection               // a connection beyond those of its network
	reasons
)

// String gives the label.
func (r Reason) String() string {
	names := [reasons]string{"reply-dropped", "reply-slipped", "udp-queries", "tcp-queries", "connections", "network-connections"}
	if r < reasons {
		return names[r]
	}
	return "unknown"
}

const (
	stripes   = 16              // so that cores that limit different networks do not share a counter
	sampled   = 16              // only each so many-th of a stripe goes into the top, which has a lock
	topSize   = 128             // networks that the top remembers
	topMemory = 5 * time.Minute // and for how long after the last time
)

// stripe is a part of the counters, on cache lines of its own.
type stripe struct {
	n [reasons]atomic.Uint64
	_ [128 - 8*reasons]byte
}

// Counts gives how many things each limit has held back so far.
func (l *Limiter) Counts() map[Reason]uint64 {
	m := make(map[Reason]uint64, reasons)
	for r := range reasons {
		for i := range l.counts {
			m[r] += l.counts[i].n[r].Load()
		}
	}
	return m
}

// note counts something that was held back.
func (l *Limiter) note(now time.Time, key, network uint64, why Reason) {
	n := l.counts[key%stripes].n[why].Add(1)
	if n%sampled == 1 {
		l.top.add(now, network, why, sampled)
	}
}

// Limited is a network that a limit holds back.
type Limited struct {
	Network netip.Prefix
	Reason  Reason
	Count   uint64 // how often, roughly: it is sampled
	Last    time.Time
}

// Top gives the networks that were held back most in the last minutes, at most n, the most first. Their order is that of
// samples: a network that was held back a few times only may be missing.
func (l *Limiter) Top(now time.Time, n int) []Limited {
	var out []Limited
	for _, e := range l.top.entries(now) {
		out = append(out, Limited{Network: l.prefix(e.network), Reason: e.why, Count: e.count, Last: e.last})
	}
	return out[:min(len(out), max(n, 0))]
}

// top counts the networks that are held back most in a bounded list: one that is not in it takes the place of the least.
type top struct {
	mu   sync.Mutex
	list []topEntry
}

type topEntry struct {
	network uint64
	why     Reason
	count   uint64
	last    time.Time
}

// add never waits: what it would have to wait for is another sample of the same flood.
func (t *top) add(now time.Time, network uint64, why Reason, weight uint64) {
	if !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	least := 0
	for i := range t.list {
		e := &t.list[i]
		if e.network == network && e.why == why {
			if now.Sub(e.last) > topMemory {
				e.count = 0
			}
			e.count, e.last = e.count+weight, now
			return
		}
		if t.less(now, i, least) {
			least = i
		}
	}
	if len(t.list) < topSize {
		t.list = append(t.list, topEntry{network, why, weight, now})
		return
	}
	t.list[least] = topEntry{network, why, weight, now}
}

// less says whether entry i is the better one to give up than entry j.
func (t *top) less(now time.Time, i, j int) bool {
	a, b := &t.list[i], &t.list[j]
	if oldA, oldB := now.Sub(a.last) > topMemory, now.Sub(b.last) > topMemory; oldA != oldB {
		return oldA
	}
	return a.count < b.count
}

func (t *top) entries(now time.Time) []topEntry {
	t.mu.Lock()
	list := slices.Clone(t.list)
	t.mu.Unlock()
	list = slices.DeleteFunc(list, func(e topEntry) bool { return now.Sub(e.last) > topMemory })
	slices.SortFunc(list, func(a, b topEntry) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.network, b.network), cmp.Compare(a.why, b.why))
	})
	return list
}
