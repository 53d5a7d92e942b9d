package transfer

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anycastle/gss/zone"
)

const (
	maxIncoming = 10              // zones that one primary is asked for at once
	minGap      = time.Second / 4 // between two refreshes that notifications ask for
)

// Secondary says where a zone is taken from.
type Secondary struct {
	Origin    string // canonical
	Primaries []Peer // asked in this order
}

// Content is what there is of a zone.
type Content struct {
	Zone *zone.Zone // without dynamic names; nil: nothing has been transferred yet
	Good bool       // not expired

	// Former says that it is from no primary: it was served before the zone came from them, and none has given it yet.
	Former bool
}

// SecondaryStatus is how a zone stands.
type SecondaryStatus struct {
	Refreshed time.Time // when the version was last known to be that of who has the zone by itself; zero: never
	Next      time.Time // when they are asked
	Expires   time.Time // when it is no longer good
	Good      bool
	Err       error // of the last attempt; nil: it was well
}

// Outcome is one attempt to transfer or refresh a zone, for metrics.
type Outcome struct {
	Origin string
	Kind   Kind
	Err    error
}

// Options are what a Follower needs.
type Options struct {
	Log    *slog.Logger
	Dir    string // where zones are kept
	Client *Client
	Random func() float64 // 0 to 1; nil: math/rand's

	// Install has a version served, or not once it is no longer good. An error means that it cannot be, and the one before stays.
	Install func(origin string, c Content) error
	// Observe is told each attempt; nil: nobody.
	Observe func(Outcome)
}

// Follower keeps zones like those of their primaries.
type Follower struct {
	o       Options
	changed chan struct{} // Set was called; holds one

	mu    sync.Mutex
	zones map[string]*followed
	slots map[netip.AddrPort]chan struct{} // of each primary that was ever asked
}

// followed is one zone. What is in it, but for the channels and serving, is guarded by the Follower's mu.
type followed struct {
	serving  sync.Mutex    // held while what is served of the zone changes; locked before mu
	notified chan struct{} // holds one
	renewed  chan struct{} // it expires at another time; holds one

	Secondary
	stop      context.CancelFunc // of its goroutine; nil: none runs
	first     int                // which of the primaries to ask first: who has notified
	zone      *zone.Zone
	schedule  schedule
	next      time.Time
	good      bool
	installed bool // that it is or is not good is what is served
	err       error
	behind    map[netip.AddrPort]uint32 // older serials that primaries were found to have, since each last had ours
}

// NewFollower follows nothing yet.
func NewFollower(o Options) *Follower {
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Observe == nil {
		o.Observe = func(Outcome) {}
	}
	return &Follower{
		o: o, changed: make(chan struct{}, 1), zones: map[string]*followed{}, slots: map[netip.AddrPort]chan struct{}{},
	}
}

// Set has the Follower follow these zones and no others. One that is new to it has the version that is in its file; those that it
// follows no more lose theirs.
func (f *Follower) Set(zones []Secondary) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := map[string]*followed{}
	for _, s := range zones {
		z := f.zones[s.Origin]
		switch {
		case z == nil:
			z = f.fresh(s)
		case !samePeers(z.Primaries, s.Primaries):
			z.Primaries = s.Primaries
			z.notify(0)
		}
		next[s.Origin] = z
	}
	for origin, z := range f.zones {
		if next[origin] != nil {
			continue
		}
		if z.stop != nil {
			z.stop()
		}
		if err := forget(f.o.Dir, origin); err != nil {
			f.o.Log.Warn("remove a zone that is secondary no more", "zone", bare(origin), "err", err)
		}
	}
	f.zones = next
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func samePeers(a, b []Peer) bool {
	return slices.EqualFunc(a, b, func(x, y Peer) bool {
		return x.Addr == y.Addr && x.MaxSize == y.MaxSize && sameKey(x.Key, y.Key)
	})
}

func sameKey(a, b *Key) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && a.Algorithm == b.Algorithm && slices.Equal(a.Secret, b.Secret)
}

// fresh begins to follow a zone.
func (f *Follower) fresh(s Secondary) *followed {
	z := &followed{
		Secondary: s, notified: make(chan struct{}, 1), renewed: make(chan struct{}, 1), behind: map[netip.AddrPort]uint32{},
	}
	got, refreshed, err := load(f.o.Dir, s.Origin)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.o.Log.Warn("a zone that was transferred cannot be read, and is transferred anew", "zone", bare(s.Origin), "err", err)
	default:
		z.has(got, refreshed)
		z.good = time.Now().Before(z.schedule.expires())
	}
	return z
}

// has takes in a version.
func (z *followed) has(got *zone.Zone, refreshed time.Time) {
	z.zone, z.schedule = got, schedule{soa: got.SOA(), refreshed: refreshed}
}

// notify has the primaries asked at once, a certain one first.
func (z *followed) notify(first int) {
	z.first = first
	select {
	case z.notified <- struct{}{}:
	default: // they will be already
	}
}

// renew has it looked anew when the zone expires.
func (z *followed) renew() {
	select {
	case z.renewed <- struct{}{}:
	default: // it will be already
	}
}

// Contents gives what there is of all zones, by origin.
func (f *Follower) Contents() map[string]Content {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]Content{}
	for origin, z := range f.zones {
		all[origin] = Content{Zone: z.zone, Good: z.good}
	}
	return all
}

// Status says how a zone stands; false if it is not followed.
func (f *Follower) Status(origin string) (SecondaryStatus, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	z := f.zones[origin]
	if z == nil {
		return SecondaryStatus{}, false
	}
	return SecondaryStatus{
		Refreshed: z.schedule.refreshed, Next: z.next, Expires: z.schedule.expires(), Good: z.good, Err: z.err,
	}, true
}

// Notified takes note that a primary, by its place among the zone's, has a version with a serial; nil: it does not say which.
func (f *Follower) Notified(origin string, primary int, serial *uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	z := f.zones[origin]
	if z == nil || serial != nil && z.zone != nil && z.good && z.zone.Serial() == *serial {
		return
	}
	z.notify(primary)
}

// Run follows the zones until ctx is done.
func (f *Follower) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		f.mu.Lock()
		for _, z := range f.zones {
			if z.stop == nil {
				var inner context.Context
				inner, z.stop = context.WithCancel(ctx)
				wg.Go(func() { f.follow(inner, z) })
			}
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-f.changed:
		}
	}
}
