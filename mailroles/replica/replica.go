package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"anycastle/mailroles/replica/bodies"
	"anycastle/mailroles/replica/group"
	"anycastle/mailroles/replica/wire"
	"anycastle/mailroles/store"
)

// Policy is what a LUN does when the other site is gone.
type Policy string

// The policies.
const (
	Wait   Policy = "wait"   // nothing is acknowledged
	Expose Policy = "expose" // it goes on, and counts what only one site has
)

// siteGone is how long nothing is heard of the other site until it is gone.
const siteGone = 2 * time.Second

// Options say which replica this is. LUN, Self, Members, Dir and Node must be given, and Serve for a mail replica.
type Options struct {
	LUN, Self string
	Members   []group.Member // all, in order of preference
	TwoSite   Policy         // default Wait
	Dir       string         // the LUN's, which must exist; of a witness, that of its log
	Node      *wire.Node
	Log       *slog.Logger // nil: silent
	Metrics   *Metrics     // nil: none

	Times           group.Times
	State           time.Duration // how often replicas tell each other how far they are, if that has not changed; 0: bodies' default
	SwitchBackAfter time.Duration // how long a preferred replica must be well to be given the LUN back
	CatchUpRate     int64         // octets a second; 0: bodies.DefaultRate
	ScrubEvery      time.Duration // 0: only when ordered

	// Serve serves the mail until ctx ends, as the active store of a term. An error before that says why it cannot: another
	// replica is to try then.
	Serve func(ctx context.Context, mail *store.Store, term uint64) error
	// Hold brings all sessions to rest, until ctx ends at the latest, and keeps them so until release is called. nil: there
	// are none.
	Hold func(ctx context.Context) (release func())
}

// Replica is one replica of a LUN, or its witness. All methods are safe for concurrent use.
type Replica struct {
	opt  Options
	log  *slog.Logger
	self group.Member

	net      *wire.Group
	caller   *bodies.Caller
	sender   *bodies.Sender // nil at a witness, as the next two
	fetcher  *bodies.Fetcher
	exchange *bodies.Exchange

	store  storeRef
	group  atomic.Pointer[group.Group]
	epoch  atomic.Pointer[epoch] // nil unless this replica leads
	era    atomic.Uint64
	begun  time.Time   // made
	orders chan *order // for the life that is under way

	lastFree atomic.Uint64 // see free

	mu      sync.Mutex
	phase   Phase
	why     string // of the phase
	since   time.Time
	unfit   map[reason]string
	changed chan struct{} // closed at the next change of unfit or of the phase
	moves   []Move        // the last ones
	pinned  time.Time     // when an operator chose this replica, which is not given back then; else zero
	exposed exposure

	better betterment
	scrub  scrub
}

// New makes a replica. Nothing happens before Run.
func New(opt Options) (*Replica, error) {
	i := slices.IndexFunc(opt.Members, func(m group.Member) bool { return m.Name == opt.Self })
	if i < 0 {
		return nil, fmt.Errorf("replica of %s: %s is no member", opt.LUN, opt.Self)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Metrics == nil {
		opt.Metrics = &Metrics{}
	}
	if opt.TwoSite == "" {
		opt.TwoSite = Wait
	}
	if opt.Hold == nil {
		opt.Hold = func(context.Context) func() { return func() {} }
	}
	if !opt.Members[i].Witness && opt.Serve == nil {
		return nil, fmt.Errorf("replica of %s: nobody serves", opt.LUN)
	}
	return &Replica{
		opt: opt, log: opt.Log, self: opt.Members[i], begun: time.Now(), phase: Starting, why: "start", since: time.Now(),
		unfit: map[reason]string{}, changed: make(chan struct{}), orders: make(chan *order),
	}, nil
}

// others gives the other mail replicas, in order of preference.
func (r *Replica) others() []group.Member {
	var list []group.Member
	for _, m := range r.opt.Members {
		if m.Name != r.self.Name && !m.Witness {
			list = append(list, m)
		}
	}
	return list
}

// Run takes part in the group until ctx ends. Only what can never work ends it before.
func (r *Replica) Run(ctx context.Context) error {
	addrs := map[string]string{}
	for _, m := range r.opt.Members {
		addrs[m.Name] = m.Addr
	}
	net, err := r.opt.Node.Join(wire.GroupOptions{LUN: r.opt.LUN, Members: addrs, Era: r.era.Load})
	if err != nil {
		return fmt.Errorf("replica of %s: %w", r.opt.LUN, err)
	}
	r.net = net
	defer net.Close()
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range r.parts() {
		g.Go(func() error { return run(ctx) })
	}
	g.Go(func() error { return r.lives(ctx) })
	return g.Wait()
}

// parts makes all that works as long as Run does.
func (r *Replica) parts() []func(context.Context) error {
	opt := bodies.Options{
		Self: bodies.Peer{Name: r.self.Name, Site: r.self.Site}, Net: r.net, Store: &r.store,
		Leader: r.leader, Rate: r.opt.CatchUpRate, Log: r.log,
		Times: bodies.Times{State: r.opt.State, Since: r.opt.Node.Made()},
	}
	for _, m := range r.others() {
		opt.Peers = append(opt.Peers, bodies.Peer{Name: m.Name, Site: m.Site})
	}
	r.caller = bodies.NewCaller(opt)
	if r.self.Witness {
		opt.Store = nil
		return []func(context.Context) error{bodies.NewDesk(opt, r.answers()).Run}
	}
	r.exchange = bodies.NewExchange(opt, r.local)
	taken := func(bodies.Body) { r.exchange.Poke() }
	r.sender, r.fetcher = bodies.NewSender(opt), bodies.NewFetcher(opt, taken)
	return []func(context.Context) error{
		bodies.NewDesk(opt, r.answers()).Run, r.exchange.Run, r.sender.Run, r.fetcher.Run,
		bodies.NewReceiver(opt, taken).Run, r.watchDisk, r.scrubs,
	}
}

// leader gives the member that leads, as far as this one knows; none if it was not heard of lately.
func (r *Replica) leader() string {
	g := r.group.Load()
	if g == nil {
		return ""
	}
	name, _ := g.Leader()
	if name == "" || name == r.self.Name {
		return name
	}
	for _, p := range g.Status().Peers {
		if p.Name == name && time.Since(p.Contact) < siteGone {
			return name
		}
	}
	return ""
}

// Active reports whether this replica is the active store.
func (r *Replica) Active() bool {
	e := r.epoch.Load()
	return e != nil && r.Serving() == nil
}

// Store gives the store while it is open, and else nil.
func (r *Replica) Store() *store.Store { return r.store.get() }

// Healthy is nil while the replica is active, or follows in step.
func (r *Replica) Healthy() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.unfit) > 0 {
		return fmt.Errorf("lun %s: %s", r.opt.LUN, r.unfitWhy())
	}
	if r.phase != Active && r.phase != Following {
		return fmt.Errorf("lun %s: %s: %s", r.opt.LUN, r.phase, r.why)
	}
	if e := r.epoch.Load(); e == nil && !r.self.Witness && r.leader() == "" {
		return fmt.Errorf("lun %s: no replica leads", r.opt.LUN)
	}
	return nil
}

// errNoStore is when the store is not open.
var errNoStore = errors.New("replica: the store is not open")
