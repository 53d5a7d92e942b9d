package real

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anycastle/bpf"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Options are what the role needs besides its config.
type Options struct {
	Log      *slog.Logger          // nil: nothing is logged
	PinDir   string                // empty: bpf.DefaultRealDir
	Registry prometheus.Registerer // nil: no metrics
}

// Role is the real's side of the load balancer. Its Status methods are safe for concurrent use, also while Run runs.
type Role struct {
	cfg  Config
	opts Options
	log  *slog.Logger

	mu      sync.Mutex
	host    *bpf.RealHost // nil while Run does not run
	uplinks []bpf.Uplink
	own     []netip.Addr
	agent   *agentRun // nil while no agent runs
}

// Status is one row of `show host`.
type Status struct {
	VIPs         []netip.Addr `json:"vips"`
	Addresses    []netip.Addr `json:"addresses"` // own ones, to which load balancers may send
	Uplinks      []bpf.Uplink `json:"uplinks"`
	Decapsulated uint64       `json:"decapsulated_packets"`
	Bytes        uint64       `json:"decapsulated_bytes"`
	PassedOn     uint64       `json:"passed_on_packets"` // to the real that had the flow before
	Drops        []DropStatus `json:"drops"`
	Agent        *AgentStatus `json:"agent,omitempty"` // nil: none is configured, or Run does not run
}

// DropStatus counts the packets dropped for one reason.
type DropStatus struct {
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

// New makes the role of a config that Validate found nothing wrong with.
func New(cfg Config, opts Options) (*Role, error) {
	r := &Role{cfg: cfg, opts: opts, log: opts.Log}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.opts.PinDir == "" {
		r.opts.PinDir = bpf.DefaultRealDir
	}
	if opts.Registry != nil {
		if err := opts.Registry.Register(collector{r}); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return r, nil
}

// Run sets the server up, waits until ctx is done, and takes away the programs and the VIPs. What an earlier process left
// behind is taken over, unless that process still runs. Sysctls stay as set: what they were is not known after a kill, and
// they harm nobody.
func (r *Role) Run(ctx context.Context) error {
	host, err := bpf.LoadReal(r.opts.PinDir)
	if err != nil {
		return err
	}
	err = r.listenAndServe(ctx, host)
	r.show(nil, nil, nil)
	// the program goes first, so that it hands no packet to a stack that has lost the VIP
	return errors.Join(err, host.Close(), bpf.Unload(r.opts.PinDir), r.removeVIPs())
}

// listenAndServe takes the agent's port before anything is set up: a server that cannot have it takes no packet.
func (r *Role) listenAndServe(ctx context.Context, host *bpf.RealHost) error {
	var ln net.Listener
	if r.cfg.Agent != nil {
		var err error
		if ln, err = listenAgent(ctx, *r.cfg.Agent, r.log); err != nil {
			return err
		}
		defer ln.Close() // the server does so too, if it comes to run
	}
	if err := r.setUp(host); err != nil {
		return err
	}
	return r.serve(ctx, host, ln)
}

// serve does what goes on as long as the role runs, and ends with ctx.
func (r *Role) serve(ctx context.Context, host *bpf.RealHost, ln net.Listener) error {
	if err := host.ClearHops(); err != nil { // an earlier process's, which nobody keeps fresh
		return err
	}
	wanted := make(chan netip.Addr)
	k := hopKeeper{host: host, log: r.log, asked: map[netip.Addr]time.Time{}, have: map[netip.Addr]bpf.Hop{}}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.runAgent(ctx, ln) })
	g.Go(func() error { return k.run(ctx, r.uplinks, wanted) })
	g.Go(func() error {
		return host.Wanted(ctx, func(to netip.Addr) {
			select {
			case wanted <- to:
			case <-ctx.Done():
			}
		})
	})
	return g.Wait()
}

// setUp goes from the inside out: when the program hands over its first packet, the stack takes it.
func (r *Role) setUp(host *bpf.RealHost) error {
	own, err := r.ownAddresses()
	if err != nil {
		return err
	}
	for _, name := range r.cfg.Uplinks {
		if err := r.setUpUplink(name); err != nil {
			return err
		}
	}
	if err := r.addVIPs(); err != nil {
		return err
	}
	if err := host.SetAddresses(own, r.cfg.VIPs); err != nil {
		return err
	}
	uplinks, err := host.Attach(r.cfg.Uplinks)
	if err != nil {
		return err
	}
	if err := setUplinkFlags(host, uplinks); err != nil {
		return err
	}
	if _, err := host.TakeOver(); err != nil {
		return err
	}
	for _, u := range uplinks {
		u.Log(r.log)
	}
	r.show(host, uplinks, own)
	return nil
}

func (r *Role) show(host *bpf.RealHost, uplinks []bpf.Uplink, own []netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.host, r.uplinks, r.own = host, uplinks, own
}

// Status gives what the role's socket answers, by path.
func (r *Role) Status() map[string]func() any {
	return map[string]func() any{"/v1/host": func() any { return []Status{r.Snapshot()} }}
}

// Snapshot gives the role's state. While Run does not run it holds the config's VIPs alone.
func (r *Role) Snapshot() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{VIPs: r.cfg.VIPs, Addresses: r.own, Uplinks: r.uplinks, Drops: []DropStatus{}}
	if r.host == nil {
		return s
	}
	count, err := r.host.Decapsulated()
	if err != nil {
		r.log.Warn("read counters", "err", err)
	}
	s.Decapsulated, s.Bytes = count.Packets, count.Bytes
	passed, err := r.host.PassedOn()
	if err != nil {
		r.log.Warn("read counters", "err", err)
	}
	s.PassedOn = passed.Packets
	drops, err := r.host.Drops()
	if err != nil {
		r.log.Warn("read drop counters", "err", err)
	}
	for _, reason := range slices.Sorted(maps.Keys(drops)) {
		s.Drops = append(s.Drops, DropStatus{Reason: reason, Packets: drops[reason]})
	}
	if r.agent != nil {
		s.Agent = r.agent.status()
	}
	return s
}
