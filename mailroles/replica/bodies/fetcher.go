package bodies

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxBatch  = 256              // bodies that a peer is asked for in one go
	maxDue    = 16 * maxBatch    // bodies to ask for before the store is asked again what is missing
	maxPuts   = 30 * time.Second // between two tries to get a body that nobody could give
	idleCheck = time.Second      // between two looks for missing bodies that nobody told of
	maxComing = 30 * time.Second // for a body to come in that is being pushed
	few       = 64               // missing bodies that may all be on their way here
)

// Fetcher gets the bodies that are missing here from peers. It is safe for concurrent use.
type Fetcher struct {
	opt   Options
	taken func(Body)
	gets  chan struct{} // one for each Get that is served
	slots chan struct{}
	rate  limiter
	wake  chan struct{} // of one

	coming func(name string) bool // says whether a body is being pushed here

	mu       sync.Mutex
	progress Progress
	tries    map[Body]*try      // of bodies that could not be got
	seen     map[Body]time.Time // when a body was first missing; only while few are
	avoid    map[string]*spell  // peers that failed, by name
	flights  map[Body]*flight
}

// try is what is known of a body that could not be got.
type try struct {
	body  Body
	count int
	next  time.Time
	gone  []string // peers that, in the last round, said that they do not have it
}

// spell is for how long a peer is left alone.
type spell struct {
	until time.Time
	last  time.Duration
}

// NewFetcher makes a fetcher. Run must run for it to fetch what the store says is missing; taken is told of each body that
// is here now; nil: nobody is.
func NewFetcher(opt Options, taken func(Body)) *Fetcher {
	if taken == nil {
		taken = func(Body) {}
	}
	opt = opt.complete()
	return &Fetcher{
		opt: opt, taken: taken, gets: make(chan struct{}, maxGets), slots: make(chan struct{}, maxTaking),
		rate: limiter{rate: opt.Rate},
		wake: make(chan struct{}, 1), tries: map[Body]*try{}, avoid: map[string]*spell{}, flights: map[Body]*flight{},
		coming: func(string) bool { return false },
	}
}

// Poke says that something may be missing. It does not block.
func (f *Fetcher) Poke() { poke(f.wake) }

// Run fetches what is missing until ctx ends, no more than Rate. A body that nobody can give now is asked for again later,
// and keeps no other one waiting.
func (f *Fetcher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		list, wait := f.due()
		if len(list) > 0 {
			for batch := range slices.Chunk(list, maxBatch) {
				f.round(ctx, batch)
			}
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-f.wake:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// due gives the missing bodies to ask for now, and if there are none, how long to wait.
func (f *Fetcher) due() (list []Body, wait time.Duration) {
	f.mu.Lock()
	late := len(f.tries)
	f.mu.Unlock()
	missing, total := f.opt.Store.Missing(late + maxDue)
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.progress.Missing = total
	if total == 0 {
		f.progress = Progress{}
		clear(f.tries)
		clear(f.seen)
		return nil, f.opt.Times.wait(idleCheck)
	}
	if f.progress.Since.IsZero() {
		f.progress.Since = now
	}
	wait = idleCheck
	still, seen := make(map[Body]*try, late), map[Body]time.Time{}
	for _, b := range missing {
		if left := f.early(b, seen, total, now); left > 0 {
			wait = min(wait, left)
			continue
		}
		t := f.tries[b]
		if t != nil {
			still[b] = t
			if left := t.next.Sub(now); left > 0 {
				wait = min(wait, left)
				continue
			}
		}
		if len(list) < maxDue {
			list = append(list, b)
		}
	}
	f.tries, f.seen = still, seen // others are not missing any more
	return list, wait
}

// early says for how long a body may be on its way here without having been asked for: an operation comes sooner than a
// large body. What is being pushed is left alone, but not for ever: the disk that it comes from may hang.
func (f *Fetcher) early(b Body, seen map[Body]time.Time, total int, now time.Time) time.Duration {
	coming := f.coming(b.Name)
	if !coming && total > few {
		return 0
	}
	first, ok := f.seen[b]
	if !ok {
		first = now
	}
	seen[b] = first
	if coming && now.Sub(first) < maxComing {
		return f.opt.Times.Retry
	}
	return first.Add(f.opt.Times.Retry).Sub(now)
}

// round asks one peer after the other for bodies, each for those that the ones before did not give.
func (f *Fetcher) round(ctx context.Context, list []Body) {
	gone := map[Body][]string{}
	paid := func(ctx context.Context, b Body) error { return f.rate.take(ctx, b.Size) }
	for _, peer := range f.opt.names() {
		if len(list) == 0 || ctx.Err() != nil {
			break
		}
		if f.avoided(peer) {
			continue
		}
		var left []Body
		var failed error
		for _, o := range f.fetch(ctx, peer, list, paid) {
			switch {
			case o.err == nil:
				continue
			case errors.Is(o.err, errGone):
				gone[o.body] = append(gone[o.body], peer)
			default:
				failed = o.err
			}
			left = append(left, o.body)
		}
		f.judge(ctx, peer, failed, len(left) < len(list))
		list = left
	}
	f.put(list, gone)
}

// avoided says whether a peer is left alone now.
func (f *Fetcher) avoided(peer string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.avoid[peer]
	return s != nil && time.Now().Before(s.until)
}

// judge leaves a peer alone for a while that failed and gave nothing.
func (f *Fetcher) judge(ctx context.Context, peer string, failed error, useful bool) {
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.avoid[peer]
	if failed == nil || useful {
		delete(f.avoid, peer)
		return
	}
	if s == nil {
		s = &spell{last: f.opt.Times.Retry / 2}
		f.avoid[peer] = s
		f.opt.Log.Info("no bodies fetched from a peer", "peer", peer, "err", failed)
	}
	s.last = min(2*s.last, 16*f.opt.Times.Retry)
	s.until = time.Now().Add(s.last)
}

// put notes bodies that nobody gave, for a later round.
func (f *Fetcher) put(list []Body, gone map[Body][]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, b := range list {
		t := f.tries[b]
		if t == nil {
			t = &try{body: b}
			f.tries[b] = t
		}
		t.count++
		t.gone = gone[b]
		t.next = now.Add(min(f.opt.Times.Retry<<min(t.count-1, 12), maxPuts))
	}
}

// got notes a body that the store has now.
func (f *Fetcher) got(b Body) {
	f.mu.Lock()
	delete(f.tries, b)
	f.progress.Got++
	f.progress.Octets += b.Size
	f.mu.Unlock()
	f.taken(b)
}

// Progress is how far the fetching is.
type Progress struct {
	Since   time.Time     // the first body was missing; zero: nothing is
	Missing int           // bodies to get
	Got     int           // bodies got since then
	Octets  int64         // of these
	ETA     time.Duration // left, at the pace so far; 0: not known
}

// Progress tells how far the fetching is.
func (f *Fetcher) Progress() Progress {
	_, total := f.opt.Store.Missing(0)
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.progress
	if total == 0 || p.Since.IsZero() {
		return Progress{Missing: total}
	}
	p.Missing = total
	if p.Got > 0 {
		p.ETA = time.Since(p.Since) / time.Duration(p.Got) * time.Duration(total)
	}
	return p
}

// Absent is a missing body, and the sites of which every mail replica said that it does not have it; this one counts.
type Absent struct {
	Body  Body
	Sites []string
}

// Absent gives the missing bodies that no replica of at least one site has: the answers are of the last round of
// questions, and a body may still be under way to one that said no. Only of an operation from before that round is it
// proven that nobody was told that it is done.
func (f *Fetcher) Absent() []Absent {
	members := map[string][]string{f.opt.Self.Site: nil} // peers, by site
	for _, p := range f.opt.Peers {
		members[p.Site] = append(members[p.Site], p.Name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []Absent
	for _, t := range f.tries {
		var sites []string
		for site, names := range members {
			has := func(name string) bool { return !slices.Contains(t.gone, name) }
			if !slices.ContainsFunc(names, has) {
				sites = append(sites, site)
			}
		}
		if len(sites) > 0 {
			slices.Sort(sites)
			list = append(list, Absent{t.body, sites})
		}
	}
	slices.SortFunc(list, func(a, b Absent) int { return strings.Compare(a.Body.Name, b.Body.Name) })
	return list
}
