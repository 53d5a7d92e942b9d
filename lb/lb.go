package lb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"anycastle/bpf"
	"anycastle/internal/mesh"
	"anycastle/internal/mtls"
	"anycastle/internal/nexthop"
	"anycastle/internal/probe"
	"anycastle/internal/wholefile"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

const (
	// retryAfter is the pause before a change that did not succeed is tried again.
	retryAfter = time.Second
	// withdrawTime bounds the last withdrawal of a process that is ending.
	withdrawTime = 5 * time.Second
)

// Announcer decides, by what this LB knows of them, which addresses routers are told of, and tells them.
type Announcer interface {
	// Set says what is known of every address that has VIPs. It is called for each change and every second, by one
	// goroutine: if it is not, the LB hangs. What is not fit any more is withdrawn when it returns, as far as it may be. An
	// error says that what routers were told is not known.
	Set(ctx context.Context, health []Health) error
	// Standing says whether a prefix is announced, and why or why not.
	Standing(prefix netip.Prefix) (announced bool, why string)
}

// Router is an Announcer that knows what became of what it was told.
type Router interface {
	Announcer
	// Routes says how the route of each prefix stands with routers, of those that are decided about.
	Routes() map[netip.Prefix]Route
	// Watch has changed be called after each change of what Routes gives, until stop is called. changed does not wait and does
	// not call back.
	Watch(changed func()) (stop func())
}

// Route is how the route of an address that has VIPs stands with routers.
type Route struct {
	Announced bool // at least one of them has it from here
	Draining  bool // it is to take no new clients, by order
	Why       string
}

// Options are what an LB needs besides its config.
type Options struct {
	Announcer Announcer             // nil: nothing is announced
	Log       *slog.Logger          // nil: nothing is logged
	PinDir    string                // empty: bpf.DefaultLBDir
	Registry  prometheus.Registerer // nil: no metrics
}

// Hop is the way to a real.
type Hop = nexthop.Hop

// LB is one load balancer. Its methods are safe for concurrent use, also while Run runs.
type LB struct {
	opts   Options
	log    *slog.Logger
	data   *mesh.Map  // orders and states
	node   string     // this LB's name in the mesh
	mesh   *mesh.Mesh // nil: there are no other LBs
	taps   captures
	events chan event
	ended  chan struct{} // closed when Run takes no more events
	taken  chan struct{} // closed when no other process has our state or our maps

	questions chan func(*loop) // answered between changes, never in one

	reporter *reporter // nil: nobody is told how the VIPs stand

	comparing sync.Mutex // one config at a time: tables take memory

	mu      sync.Mutex
	cfg     *Config
	view    view // what Status shows
	running bool
}

// New makes an LB of a config that Validate found nothing wrong with.
func New(cfg Config, opts Options) (*LB, error) {
	l := &LB{cfg: &cfg, opts: opts, log: opts.Log, events: make(chan event), ended: make(chan struct{}),
		taken: make(chan struct{}), questions: make(chan func(*loop))}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.opts.PinDir == "" {
		l.opts.PinDir = bpf.DefaultLBDir
	}
	l.view = newView(l.cfg)
	if cfg.tells() {
		l.reporter = newReporter(l)
	}
	if opts.Registry != nil {
		if err := opts.Registry.Register(collector{l}); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	var err error
	if l.node, err = cfg.Mesh.NodeName(); err != nil && cfg.Mesh != nil {
		return nil, err
	} else if err != nil {
		l.node = "lb" // nobody else hears it
	}
	l.data = mesh.NewMap(l.node, l.log)
	if cfg.Mesh != nil {
		l.mesh, err = mesh.New(*cfg.Mesh, mesh.Options{Map: l.data, Group: "lb", Log: l.log, Registry: opts.Registry})
	}
	return l, err
}

// stateFile is in Config.StateDir.
const stateFile = "state"

// Run balances until ctx is done. Then it withdraws every address and returns nil, and leaves the program attached:
// packets that routers still send find their reals. It may be called once.
func (l *LB) Run(ctx context.Context) (err error) {
	cfg := l.config()
	held, err := l.openState(cfg.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }() // after the last Save
	agents, err := l.openAgents(cfg)
	if err != nil {
		return err
	}
	listeners, err := l.listenReports(ctx, cfg)
	if err != nil {
		return err
	}
	defer listeners.close()
	plane, uplinks, err := openXDP(cfg, l.opts.PinDir)
	if err != nil {
		return err
	}
	close(l.taken)
	l.taps.open(plane.lb)
	defer func() {
		l.taps.close()
		l.showPlane(nil, nil)
		err = errors.Join(err, plane.Close())
	}()
	for _, u := range uplinks {
		u.Log(l.log)
	}
	have, err := plane.Read()
	if err != nil {
		return err
	}
	l.showPlane(plane, uplinks)
	lo := newLoop(l, plane, have)
	if lo.uplinks, err = plane.answerBy(cfg.Uplinks); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	l.watch(ctx, g, lo, uplinks, agents)
	if l.mesh != nil {
		g.Go(func() error { return l.mesh.Run(ctx) })
	}
	g.Go(func() error { return l.data.Keep(ctx, filepath.Join(cfg.StateDir, stateFile)) })
	g.Go(func() error { return plane.lb.RunHeld(ctx) })
	g.Go(func() error { return lo.run(ctx) })
	listeners.serve(ctx, g)
	l.setRunning(true)
	defer l.setRunning(false)
	return g.Wait()
}

// Taken is closed when Run has the state and the maps for itself: before, another process on this machine may be the balancer, and
// routers are not to hear of this one.
func (l *LB) Taken() <-chan struct{} { return l.taken }

// watch starts what the loop is told by.
func (l *LB) watch(ctx context.Context, g *errgroup.Group, lo *loop, uplinks []bpf.Uplink, agents *agents) {
	native := make([]nexthop.Uplink, 0, len(uplinks))
	for _, u := range uplinks {
		native = append(native, nexthop.Uplink{Name: u.Name, Native: u.Mode == bpf.Native})
	}
	hops := nexthop.New(lo.in.addresses(), nexthop.Options{
		Known: lo.have.hops(), Uplinks: native, Log: l.log,
		Report: func(ctx context.Context, h map[netip.Addr]nexthop.Hop) { send(ctx, l.events, hopsEvent(h)) },
	})
	probes := probe.NewRunner(nil, func(r probe.Result) { send(ctx, l.events, resultEvent(r)) })
	stored, unwatch := l.data.Watch()
	lo.watch = watchers{probes: probes, hops: hops, stored: stored}
	g.Go(func() error { defer unwatch(); return hops.Run(ctx) })
	g.Go(func() error { return endless(ctx, probes.Run) })
	if agents != nil {
		lo.watch.agents = agents
		agents.opts.Report = func(u agentUpdate) { send(ctx, l.events, agentEvent(u)) }
		g.Go(func() error { return endless(ctx, agents.Run) })
	}
}

// endless runs what ends with its context's error, which is no error of ours.
func endless(ctx context.Context, run func(context.Context) error) error {
	err := run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// newLoop makes the loop of an LB. It has no watchers yet.
func newLoop(l *LB, plane dataplane, have tables) *loop {
	cfg := l.config()
	return &loop{LB: l, plane: plane, have: have, in: newInputs(cfg), store: newStore(l.data, l.node, l.others, l.log),
		alone: cfg.Mesh == nil || len(cfg.Mesh.Join) == 0, started: now(),
		counts: map[string]counted{}, probing: map[realID]bool{}, waiting: map[realID]time.Time{}}
}

// openState reads the orders and states of the process before, and has no other process do so until what it gives is closed: a
// second one would undo what the first has written since.
func (l *LB) openState(dir string) (held io.Closer, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of orders and states: %w; give another with lb.state_dir", err)
	}
	const mend = "let this user write there, or give another directory with lb.state_dir"
	path := filepath.Join(dir, stateFile)
	held, err = wholefile.Hold(path)
	if errors.Is(err, wholefile.ErrHeld) {
		return nil, fmt.Errorf("%w; stop that one, or give this one another directory with lb.state_dir", err)
	}
	if err != nil {
		return nil, fmt.Errorf("write orders and states: %w; %s", err, mend)
	}
	if err = l.data.Load(path); err == nil {
		// it would fail soon after, with the program attached
		if err = l.data.Save(path); err != nil {
			err = fmt.Errorf("write orders and states: %w; %s", err, mend)
		}
	}
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	return held, nil
}

// openAgents gives what reads the reals' agents, or nil if no farm can have one.
func (l *LB) openAgents(cfg *Config) (*agents, error) {
	if cfg.TLS == nil {
		return nil, nil
	}
	material, err := mtls.Load(*cfg.TLS, l.log)
	if err != nil {
		return nil, err
	}
	return newAgents(agentOptions{TLS: material.Client, Log: l.log}), nil
}

// others are the names of the other LBs that are there.
func (l *LB) others() map[string]bool {
	names := map[string]bool{}
	if l.mesh != nil {
		for _, m := range l.mesh.Members() {
			if m.State == mesh.Alive && !m.Self {
				names[m.Name] = true
			}
		}
	}
	return names
}

func (l *LB) config() *Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cfg
}

func (l *LB) setRunning(running bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = running
}

func send[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}
