package rhi

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// resync is how often the routes are brought in line though nothing was heard to change, which also tries again what
// could not be done.
const resync = 5 * time.Second

// longestRest bounds the pause from one sync to the next that a change of routes asks for.
const longestRest = 5 * time.Millisecond

// errStopped is what SetAnnouncements answers after Run has ended.
var errStopped = errors.New("the BGP speaker has stopped")

// Options are what a Role needs besides its config.
type Options struct {
	Log      *slog.Logger          // nil: no log
	Registry prometheus.Registerer // nil: no metrics

	// Changed is called after each change of the routing table, or of what watched neighbors have, and after each step of a
	// session. It is called from the Role's own goroutines, without its lock: it must neither block nor wait for the Role.
	// nil: nothing is
	Changed func()
}

// Role is route health injection for one process. All methods are safe for concurrent use.
type Role struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	registry prometheus.Registerer
	tell     func()          // Options.Changed
	changed  chan struct{}   // the routing table changed; holds one
	peerCh   chan peerChange // steps of sessions, for Run
	stamps   *stamper

	heardMu sync.Mutex
	heard   []heard // what was heard of paths, until the loop takes it

	mu       sync.Mutex // guards the rest, and each apply from its diff to its reading back
	speaker  *speaker   // nil before Run has started it and after it has ended
	stopped  bool
	health   announceTable                 // what SetAnnouncements asked for
	asked    map[netip.Prefix]Announcement // its stamps, until it is sent
	stands   announceTable                 // what was announced when it was last read back
	kernel   routeTable
	unset    map[netip.Prefix]error // why learned routes are not in the kernel, or not by all next hops
	peers    map[netip.Addr]*session
	detector *detector // nil before Run, and without BFD
	stage    stage
}

// New makes a Role from a config that Validate found good. Nothing happens before Run.
func New(cfg Config, opts Options) *Role {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Changed == nil {
		opts.Changed = func() {}
	}
	r := &Role{
		cfg:      cfg,
		log:      opts.Log,
		metrics:  newMetrics(opts.Registry),
		registry: opts.Registry,
		tell:     opts.Changed,
		changed:  make(chan struct{}, 1),
		peerCh:   make(chan peerChange),
		health:   announceTable{},
		peers:    map[netip.Addr]*session{},
		stage:    cfg.firstStage(),
	}
	r.stamps = newStamper(opts.Log, r.metrics.transitions)
	for _, n := range cfg.Neighbors {
		r.peers[n.Address] = &session{Neighbor: n, shown: newPeer(n)}
		r.metrics.sessionUp.WithLabelValues(n.Name).Set(0)
	}
	for _, d := range cfg.Dynamic {
		r.metrics.sessionUp.WithLabelValues(d.Name).Set(0)
		r.metrics.peersRefused.WithLabelValues(d.Name).Add(0)
	}
	return r
}

// SetAnnouncements makes the given prefixes, and no others, the ones that health stands behind, each at a rung of each group's
// ladder. They are withdrawn, announced and changed before it returns, and read back; before Run they are kept for it. A
// prefix that goes to another rung is replaced in one step: no peer is without it meanwhile. Configured own routes stay
// announced to all whatever is set. The same again sends nothing. A prefix that Refuse has a reason against is kept and
// not announced, and holds no other back. An error says that what is announced may differ; Run goes on trying, unless it
// is about what was asked for, which then changes nothing.
func (r *Role) SetAnnouncements(ctx context.Context, announcements []Announcement) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	table, err := r.cfg.announcements(announcements)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return errStopped
	}
	r.health, r.asked = table, byPrefix(announcements)
	if r.speaker == nil {
		return nil
	}
	_, err = r.announce()
	return err
}

// Refuse says why no peer can be told of a prefix, and what to do about it; empty: one can.
func (r *Role) Refuse(p netip.Prefix) string { return r.cfg.refuse(p) }

// Run speaks BGP until ctx is done. It then ends the sessions and, on a router, removes the kernel routes that it made; a router
// goes on for `leave` before that, so that its neighbors may go elsewhere. A Role runs once, in the network namespace of the
// process.
func (r *Role) Run(ctx context.Context) (err error) {
	defer r.retire() // also when it could not begin: SetAnnouncements must not promise what nobody will do
	kernel, changes, err := r.openRouter()
	if err != nil {
		return err
	}
	if kernel != nil {
		defer kernel.close()
		defer changes.close()
	}
	s, err := startSpeaker(ctx, &r.cfg, r.log)
	if err != nil {
		return err
	}
	var d *detector
	defer func() {
		r.retire()
		s.stop() // before the routes go: peers send to us as long as a session stands
		d.stop()
		if kernel != nil {
			_, clearErr := kernel.apply(nil, nil)
			err = errors.Join(err, clearErr)
		}
	}()
	r.stamps.open()
	defer r.stamps.close()
	watch, stopWatch := context.WithCancel(context.WithoutCancel(ctx)) // a router goes on for a while
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stopWatch()
	watching.Go(func() { r.stamps.run(watch) })
	if changes != nil {
		watching.Go(func() {
			if err := changes.watch(watch, r.kick); err != nil {
				r.log.Warn("deaf to links, will look at intervals", "interval", resync, "err", err)
			}
		})
	}
	onTable := func(list []heard) { r.noteHeard(list); r.kick(); r.tell() }
	if err := s.watch(watch, onTable, r.tell, func(c peerChange) {
		select {
		case r.peerCh <- c:
		case <-watch.Done():
		}
	}); err != nil {
		return err
	}
	if err := r.employ(s); err != nil { // own routes first, so that a session's first words carry them
		return err
	}
	if d, err = r.detect(watch); err != nil {
		return err
	}
	if err := s.addPeers(ctx); err != nil {
		return err
	}
	return r.loop(ctx, s, kernel, d)
}

// openRouter opens what a router needs; nil on another node.
func (r *Role) openRouter() (*fib, *links, error) {
	if r.cfg.Router == nil {
		return nil, nil, nil
	}
	kernel, err := openFIB()
	if err != nil {
		return nil, nil, err
	}
	kernel.from = r.cfg.Router.Source
	changes, err := openLinks()
	if err != nil {
		kernel.close()
		return nil, nil, err
	}
	return kernel, changes, nil
}

// employ puts the speaker to use.
func (r *Role) employ(s *speaker) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.speaker = s
	_, err := r.announce()
	return err
}

// retire takes the speaker out of use for good, and SetAnnouncements with it.
func (r *Role) retire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.speaker, r.stopped = nil, true
}

// kick asks the loop for a sync without waiting for it.
func (r *Role) kick() {
	select {
	case r.changed <- struct{}{}:
	default: // one is asked for already
	}
}

// sync brings announced and kernel routes in line with what is wanted.
func (r *Role) sync(kernel *fib, inherited prefixSet) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	paths, err := r.announce()
	if kernel == nil || paths == nil {
		return err
	}
	want := learnedRoutes(paths, r.own())
	for p := range want {
		delete(inherited, p) // ours now: it goes when its peer withdraws it
	}
	have, applyErr := kernel.apply(want, inherited)
	r.unset = kernel.unset
	if why := kernel.why(); why != nil {
		r.log.Warn("flows move to other next hops whenever one comes or goes", "cause", why)
	}
	if have != nil {
		r.logKernel(have)
	}
	return errors.Join(err, applyErr)
}

// logKernel notes what changed in the kernel since the last sync.
func (r *Role) logKernel(now routeTable) {
	changed, gone := kernelPlan(now, r.kernel, nil)
	for _, p := range changed {
		r.log.Info("kernel route set", "prefix", p, "old", r.kernel[p], "new", now[p])
	}
	for _, p := range gone {
		r.log.Info("kernel route removed", "prefix", p, "old", r.kernel[p])
	}
	r.kernel = now
	r.metrics.kernelRoutes.Set(float64(len(now)))
}
