package mailroles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anycastle/internal/probe"
)

// LUNStatus is what a front end knows of a LUN's store.
type LUNStatus struct {
	Name  string         `json:"name"`
	Addr  netip.AddrPort `json:"addr"`
	State probe.State    `json:"state"`
	Err   string         `json:"err,omitempty"` // why the last probe failed
	Since time.Time      `json:"since"`         // when the state became so; zero while it is unknown
}

// reach probes the stores of all LUNs. The result is told, not acted upon: a delivery or a login tries its store
// whatever the probes say.
type reach struct {
	log *slog.Logger

	mu      sync.Mutex
	luns    []LUNStatus
	running bool
}

func newReach(log *slog.Logger, stores map[string]netip.AddrPort) *reach {
	r := &reach{log: log}
	for _, name := range slices.Sorted(maps.Keys(stores)) {
		r.luns = append(r.luns, LUNStatus{Name: name, Addr: stores[name]})
	}
	return r
}

// beside runs serve and probes as long as it runs.
func (r *reach) beside(ctx context.Context, serve func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var probing sync.WaitGroup
	defer probing.Wait()
	defer cancel()
	probing.Go(func() { r.run(ctx) })
	return serve(ctx)
}

// run probes until ctx ends.
func (r *reach) run(ctx context.Context) {
	var cfg probe.Config
	cfg.SetDefaults()
	var targets []probe.Target
	for _, l := range r.status() {
		targets = append(targets, probe.Target{Name: l.Name, Addr: l.Addr, Config: &cfg})
	}
	r.serving(true)
	defer r.serving(false)
	// its only error is that ctx has ended
	_ = probe.Run(ctx, targets, nil, r.report)
}

func (r *reach) serving(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = on
}

func (r *reach) report(res probe.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.luns {
		l := &r.luns[i]
		if l.Name != res.Target.Name {
			continue
		}
		l.Err = ""
		if res.Err != nil {
			l.Err = res.Err.Error()
		}
		if res.Changed {
			r.log.Info("store changed state", "lun", l.Name, "old", l.State.String(), "new", res.State.String(), "err", l.Err)
			l.State, l.Since = res.State, res.At
		}
	}
}

func (r *reach) status() []LUNStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]LUNStatus{}, r.luns...)
}

// healthy is nil while the role serves and at least one store may be reached: a front end that reaches none is of no
// use, and another may.
func (r *reach) healthy() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running {
		return errStopped
	}
	var errs []error
	for _, l := range r.luns {
		if l.State != probe.Failing {
			return nil
		}
		errs = append(errs, fmt.Errorf("lun %s: %s", l.Name, l.Err))
	}
	return fmt.Errorf("no store is reached: %w", errors.Join(errs...))
}
