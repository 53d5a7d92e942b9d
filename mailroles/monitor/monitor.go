package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/internal/probe"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Options are what a Monitor is given by the process that it runs in.
type Options struct {
	Log      *slog.Logger         // nil: silent
	Registry *prometheus.Registry // takes the metrics, and has all that are served; nil: a new one
	TLS      *mtls.Material       // needed where the config says to listen
	Listen   func(ctx context.Context, network, address string) (net.Listener, error)
	// Listen nil: net.ListenConfig's
}

// errStopped is the health of a monitor that does not run.
var errStopped = errors.New("monitor: not probing")

// Monitor watches the targets of a config. Run is called once; the rest may be called at any time, concurrently.
type Monitor struct {
	Options
	runner *probe.Runner
	ready  chan struct{}

	mu      sync.Mutex
	listen  *config.ListenAddr
	order   []string            // of the targets, as in the config
	watched map[string]*watched // by name
}

// watched is one target and what is known of it.
type watched struct {
	target   Target
	addr     string // as it is shown
	state    probe.State
	since    time.Time // when the state began; zero while it is unknown
	changes  uint64    // from passing to failing and back
	probes   uint64
	failures uint64
	why      string // of the last failure that counted, while the target fails or has failed last
	unable   string // why this machine could not probe the last time
	last     time.Time
	took     time.Duration
}

// New makes a Monitor, and reads the files that its probes name.
func New(c Config, opt Options) (*Monitor, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Registry == nil {
		opt.Registry = prometheus.NewRegistry()
	}
	if opt.Listen == nil {
		opt.Listen = (&net.ListenConfig{}).Listen
	}
	if err := config.Check("mail.monitor", c.Validate); err != nil {
		return nil, err
	}
	if c.Listen != nil && opt.TLS == nil {
		return nil, errors.New("monitor: listening needs TLS")
	}
	m := &Monitor{Options: opt, listen: c.Listen, ready: make(chan struct{})}
	m.runner = probe.NewRunner(nil, m.take)
	if err := m.setTargets(c.Targets); err != nil {
		return nil, err
	}
	if err := opt.Registry.Register(collector{m}); err != nil {
		return nil, fmt.Errorf("register metrics of the monitor: %w", err)
	}
	return m, nil
}

// Ready is closed when the monitor probes and listens.
func (m *Monitor) Ready() <-chan struct{} { return m.ready }

// Run probes until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if m.listen != nil {
		ln, err := m.Listen(ctx, "tcp", m.listen.String())
		if err != nil {
			return fmt.Errorf("listen on %s: %w", m.listen, err)
		}
		g.Go(func() error { return m.serve(ctx, ln) })
	}
	close(m.ready)
	g.Go(func() error {
		if err := m.runner.Run(ctx); ctx.Err() == nil {
			return err
		}
		return nil
	})
	return g.Wait()
}

// Reload takes the targets of another config. One that stays, by its name, keeps its counts, and where its address is the
// same its state. On an error nothing has changed.
func (m *Monitor) Reload(c Config) error {
	if err := config.Check("mail.monitor", c.Validate); err != nil {
		return err
	}
	if (c.Listen == nil) != (m.listen == nil) || c.Listen != nil && *c.Listen != *m.listen {
		return errors.New("mail.monitor.listen is another one; restart the role for that")
	}
	return m.setTargets(c.Targets)
}

func (m *Monitor) setTargets(targets []Target) error {
	var probed []probe.Target
	order := make([]string, 0, len(targets))
	next := make(map[string]*watched, len(targets))
	for _, t := range targets {
		p := t.probed()
		w := &watched{target: t, addr: shown(p)}
		probed, order = append(probed, p), append(order, t.Name)
		next[t.Name] = w
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// results wait for mu: none is taken before the targets are those that the runner has
	if err := m.runner.SetTargets(probed); err != nil {
		return fmt.Errorf("mail.monitor.targets: %w", err)
	}
	for name, w := range next {
		if old := m.watched[name]; old != nil {
			w.keep(old)
		}
	}
	m.order, m.watched = order, next
	return nil
}

// keep takes over what was known of a target of the same name.
func (w *watched) keep(old *watched) {
	w.changes, w.probes, w.failures = old.changes, old.probes, old.failures
	if w.target.probed().Addr == old.target.probed().Addr {
		target, addr := w.target, w.addr
		*w = *old
		w.target, w.addr = target, addr
	}
}

// shown gives an address, with the port where there is one.
func shown(t probe.Target) string {
	if t.Addr.Port() == 0 {
		return t.Addr.Addr().String()
	}
	return t.Addr.String()
}

// take takes one result.
func (m *Monitor) take(r probe.Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.watched[r.Target.Name]
	if w == nil || w.target.probed().Addr != r.Target.Addr {
		return // it has been on its way while the config changed
	}
	if r.Ours {
		if w.unable == "" {
			m.Log.Error("cannot probe", "target", r.Target.Name, "err", r.Err)
		}
		w.unable = r.Err.Error()
		return
	}
	w.unable = ""
	w.last, w.took = r.At, r.Took
	w.probes++
	if r.Err != nil {
		w.failures++
		w.why = r.Err.Error()
	} else if r.State == probe.Passing {
		w.why = ""
	}
	if r.State == w.state {
		return
	}
	if w.state != probe.Unknown {
		w.changes++
	}
	m.tell(w, r)
	w.state, w.since = r.State, r.At.Add(r.Took)
}

// tell logs a change.
func (m *Monitor) tell(w *watched, r probe.Result) {
	log, cause := m.Log.Info, "it answers"
	if r.State == probe.Failing {
		log, cause = m.Log.Warn, w.why
	}
	attrs := []any{"target", r.Target.Name, "address", w.addr, "old", w.state.String(), "new", r.State.String(), "cause", cause}
	if kind := w.target.Labels["kind"]; kind != "" {
		attrs = append(attrs, "kind", kind)
	}
	if !w.since.IsZero() {
		attrs = append(attrs, "lasted", r.At.Add(r.Took).Sub(w.since).Round(time.Millisecond))
	}
	log("target changed", attrs...)
}

// Healthy is nil while the monitor runs and can probe. What it sees of targets is no matter of its own health.
func (m *Monitor) Healthy() error {
	select {
	case <-m.ready:
	default:
		return errStopped
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range m.order {
		if w := m.watched[name]; w.unable != "" {
			return fmt.Errorf("monitor: cannot probe %s: %s", name, w.unable)
		}
	}
	return nil
}

// TargetStatus is how a target is, as `show target` and /v1/target have it.
type TargetStatus struct {
	Name       string            `json:"name"`
	Address    string            `json:"address"`
	Probe      string            `json:"probe"`
	Labels     map[string]string `json:"labels"`
	State      probe.State       `json:"state"`
	Since      time.Time         `json:"since,omitzero"` // when the state began; absent while it is unknown
	Why        string            `json:"why"`            // why it fails, or why the last probe did
	Changes    uint64            `json:"changes"`
	Probes     uint64            `json:"probes"`
	Failures   uint64            `json:"failures"`
	Last       time.Time         `json:"last,omitzero"` // of the last probe
	DurationMS float64           `json:"duration_ms"`
}

// Targets tells of all targets, in the order of the config.
func (m *Monitor) Targets() []TargetStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []TargetStatus{}
	for _, name := range m.order {
		w := m.watched[name]
		labels := maps.Clone(w.target.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		s := TargetStatus{
			Name: name, Address: w.addr, Probe: w.target.asks().Type, Labels: labels, State: w.state, Since: w.since, Why: w.why,
			Changes: w.changes, Probes: w.probes, Failures: w.failures, Last: w.last, DurationMS: float64(w.took.Microseconds()) / 1000,
		}
		if w.unable != "" {
			s.Why = "cannot probe: " + w.unable
		}
		list = append(list, s)
	}
	return list
}
