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

// counters are of a Limiter and those that succeed it.
type counters [stripes]stripe

// stripe is a part of the counters, on cache lines of its own.
type stripe struct {
	held, logged [reasons]atomic.Uint64
	_            [128 - 2*8*reasons]byte
}

// Count is how often something was beyond a limit.
type Count struct {
	Reason Reason
	Held   uint64 // back
	Logged uint64 // and let go, as the Limiter was LogOnly
}

// Counts gives a Count for each Reason, in their order, with those of the Limiters before this one.
func (l *Limiter) Counts() []Count {
	list := make([]Count, reasons)
	for r := range list {
		list[r].Reason = Reason(r)
		for i := range l.counts {
			list[r].Held += l.counts[i].held[r].Load()
			list[r].Logged += l.counts[i].logged[r].Load()
		}
	}
	return list
}

// Succeed has the Limiter count on where the one before it has come to. It is called before the Limiter is used.
func (l *Limiter) Succeed(was *Limiter) { l.counts = was.counts }

// held says whether what is beyond a limit is held back. The bound on all connections is that of this machine's memory and
// descriptors, and so holds whatever the config says.
func (l *Limiter) held(why Reason) bool { return why == Connection || !l.cfg.LogOnly }

// note counts something that is beyond a limit, and says whether it is held back.
func (l *Limiter) note(now time.Time, key, network uint64, why Reason) bool {
	held, c := l.held(why), &l.counts[key%stripes]
	n := &c.logged[why]
	if held {
		n = &c.held[why]
	}
	if n.Add(1)%sampled == 1 {
		l.top.add(now, network, why, sampled)
	}
	return held
}

// Limited is a network that is beyond a limit.
type Limited struct {
	Network netip.Prefix
	Reason  Reason
	Held    bool   // back; else only counted
	Count   uint64 // how often, roughly: it is sampled
	Last    time.Time
}

// Top gives the networks that were beyond limits most in the last minutes, at most n, the most first. Their order is that of
// samples: a network that was so a few times only may be missing.
func (l *Limiter) Top(now time.Time, n int) []Limited {
	var out []Limited
	for _, e := range l.top.entries(now) {
		out = append(out, Limited{Network: l.prefix(e.network), Reason: e.why, Held: l.held(e.why), Count: e.count, Last: e.last})
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
