package inject

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"anycastle/internal/mesh"
	"anycastle/rhi"
	"anycastle/rhi/decide"
)

const (
	// beat is how often all reports are told though nothing has changed.
	beat = time.Second
	// retryAfter is the pause before what could not be announced is tried again.
	retryAfter = time.Second
)

// Speaker is what an Injector needs of a rhi.Role.
type Speaker interface {
	SetAnnouncements(ctx context.Context, announcements []rhi.Announcement) error
	Status() rhi.Status
	Sent() []rhi.Sent
	Refuse(p netip.Prefix) string
	Standing() map[netip.Prefix]int
	Watched() map[string]rhi.Watched
}

// Service is what the balancer knows of one VIP.
type Service struct {
	Prefix netip.Prefix
	Health decide.Health // Lease is set by the Injector
	Min    decide.Minimum
	Full   decide.Minimum
	Flows  decide.Flows
	At     time.Time // when what it follows from came to be known; zero: now
}

// Options are what an Injector needs besides its config.
type Options struct {
	Log      *slog.Logger          // nil: no log
	Registry prometheus.Registerer // nil: no metrics
	Moved    func()                // called after each change of what Routes gives; it does not wait, and does not call back
}

// Injector decides what a speaker announces. Its methods are safe for concurrent use.
type Injector struct {
	cfg     rhi.Config
	speaker Speaker
	log     *slog.Logger
	name    string // of this balancer, as the others know it
	site    string
	boot    time.Time
	data    *mesh.Map  // orders
	mesh    *mesh.Mesh // nil: there are no others
	others  *others
	metrics *metrics
	kicked  chan struct{} // something has happened; holds one
	moved   func()        // Options.Moved

	mu       sync.Mutex
	services map[netip.Prefix]decide.VIP // as the balancer gave them; nil: it did not yet
	cause    time.Time                   // when what is to be decided about came to be known; zero: now
	state    decide.State
	gone     decide.State // of VIPs that the balancer has no more: their flaps are not forgotten
	last     decide.Decisions
	sent     map[netip.Prefix]rhi.Announcement
	standing map[netip.Prefix]int // at how many peers they stand, when it was decided last
	routes   map[netip.Prefix]Route
	unsure   bool // the last SetAnnouncements did not succeed
	said     map[netip.Prefix]decide.Report
	number   int64 // of the last telling
	loaded   bool  // what the process before has left is read
	ended    bool
}

// New makes an Injector of a valid config. Run makes it live.
func New(cfg rhi.Config, speaker Speaker, o Options) (*Injector, error) {
	name, err := cfg.Mesh.NodeName()
	if err != nil && cfg.Mesh != nil {
		return nil, err
	} else if err != nil {
		name = "lb" // nobody else hears it
	}
	i := &Injector{
		cfg: cfg, speaker: speaker, log: o.Log, name: name, boot: time.Now().Round(0), kicked: make(chan struct{}, 1),
		state: decide.State{}, gone: decide.State{}, sent: map[netip.Prefix]rhi.Announcement{},
		said: map[netip.Prefix]decide.Report{}, others: newOthers(name), moved: o.Moved,
	}
	if i.moved == nil {
		i.moved = func() {}
	}
	if i.site = cfg.Site; i.site == "" {
		i.site = name
	}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	i.metrics = newMetrics(o.Registry)
	i.data = mesh.NewMap(name, i.log)
	if cfg.Mesh != nil {
		i.mesh, err = mesh.New(*cfg.Mesh, mesh.Options{Map: i.data, Group: "rhi", Told: i.told, Log: i.log, Registry: o.Registry})
	}
	return i, err
}

// Kick has Run look again. It does not wait. It is what rhi.Options.Changed is to call.
func (i *Injector) Kick() {
	select {
	case i.kicked <- struct{}{}:
	default: // it will look already
	}
}

// told takes what another balancer says.
func (i *Injector) told(from, text string) {
	news, err := i.others.take(from, []byte(text), time.Now())
	if err != nil {
		i.metrics.refused.Inc()
		i.log.Debug("a report of another balancer is not taken", "from", from, "err", err)
	}
	if news {
		i.Kick()
	}
}

// Run decides and tells the others until ctx is done. It does not withdraw anything then: whoever ends the balancer gives
// Set nothing, or ends the speaker.
func (i *Injector) Run(ctx context.Context) (err error) {
	held, err := i.hold()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }() // after the last save
	if err := i.load(); err != nil {
		return err
	}
	orders, unwatch := i.data.Watch()
	defer unwatch()
	g, ctx := errgroup.WithContext(ctx)
	if i.mesh != nil {
		g.Go(func() error { return i.mesh.Run(ctx) })
	}
	g.Go(func() error { return i.data.Keep(ctx, filepath.Join(i.cfg.StateDir, ordersFile)) })
	g.Go(func() error { i.loop(ctx, orders); return nil })
	err = g.Wait()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	return errors.Join(err, i.save())
}

func (i *Injector) loop(ctx context.Context, orders <-chan struct{}) {
	beats := time.NewTicker(beat)
	defer beats.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	var kept []byte
	for {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-beats.C:
			all = true
			kept = i.keep(kept)
		case <-due.C:
		case <-orders:
		case <-i.kicked:
		}
		if next := i.again(ctx, all); !next.IsZero() {
			due.Reset(max(time.Until(next), time.Millisecond))
		}
	}
}

// again decides once more, and gives when to do so next though nothing happens. all says that all reports are told.
func (i *Injector) again(ctx context.Context, all bool) (next time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.act(ctx); err != nil && ctx.Err() == nil {
		i.log.Error("announce what is decided", "err", err)
		next = time.Now().Add(retryAfter)
	}
	i.publish(all)
	if d := i.last.Deadline(time.Now()); next.IsZero() || !d.IsZero() && d.Before(next) {
		next = d
	}
	return next
}

// Set says what the balancer knows of all its VIPs, and that it does not hang. VIPs that are not in it are withdrawn. An
// error says that what is announced may differ; Run goes on trying.
func (i *Injector) Set(ctx context.Context, services []Service) error {
	now := time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return errors.New("the injector has stopped")
	}
	was, cause := i.services, now
	i.services = map[netip.Prefix]decide.VIP{}
	for _, s := range services {
		if !s.At.IsZero() && s.At.Before(cause) {
			cause = s.At
		}
		v := decide.VIP{Role: i.cfg.Role, Health: s.Health, Min: s.Min, Full: s.Full, Flows: s.Flows}
		v.Health.Lease = now
		i.services[s.Prefix] = v
	}
	if i.loaded && !i.unsure && i.renewed(was) {
		return nil // what is decided holds, and the loop looks again when it no longer does
	}
	i.cause = cause
	if !i.loaded {
		return nil // Run decides as soon as it is
	}
	err := i.act(ctx)
	i.publish(false)
	i.Kick() // to look when what was decided now ends
	return err
}

// renewed says whether the services are what they were but for their leases, none of which was about to end: to read the BGP
// tables and decide each second, which gives the same again, is most of what an idle balancer would cost. The caller holds mu.
func (i *Injector) renewed(was map[netip.Prefix]decide.VIP) bool {
	lease := i.cfg.Decide().Lease
	return was != nil && maps.EqualFunc(was, i.services, func(a, b decide.VIP) bool {
		gone := b.Health.Lease.Sub(a.Health.Lease)
		a.Health.Lease = b.Health.Lease
		return gone < lease/2 && a.Role == b.Role && a.Health == b.Health && a.Min == b.Min && a.Full == b.Full && a.Flows == b.Flows
	})
}

// act decides and announces. What was read back may lead to another decision, such as to hold for another site. The caller
// holds mu.
func (i *Injector) act(ctx context.Context) error {
	if i.services == nil {
		return nil
	}
	defer i.noteRoutes()
	for range 3 {
		now := time.Now()
		i.recall()
		state, ds := decide.Next(i.state, i.inputs(now), now)
		i.note(i.state, state)
		i.warn(i.last, ds)
		i.state, i.last = state, ds
		want := i.announcements(ds, now)
		if !i.unsure && sameAnnouncements(want, i.sent) {
			break
		}
		list := make([]rhi.Announcement, 0, len(want))
		for _, a := range want {
			list = append(list, a)
		}
		err := i.speaker.SetAnnouncements(ctx, list)
		if i.unsure = err != nil; err != nil {
			return fmt.Errorf("announce %d VIPs: %w", len(list), err)
		}
		i.sent = want
	}
	i.cause = time.Time{}
	i.metrics.show(i.last, i.state)
	return nil
}

// announcements are what is decided, in the speaker's words.
func (i *Injector) announcements(ds decide.Decisions, now time.Time) map[netip.Prefix]rhi.Announcement {
	list := map[netip.Prefix]rhi.Announcement{}
	for prefix, d := range ds.VIPs {
		a := rhi.Announcement{Prefix: prefix, Rungs: map[string]int{}, Why: d.Why, Cause: i.cause, Decided: now}
		if i.cause.IsZero() {
			a.Cause = now // it was heard, or it is time
		}
		for group, rung := range d.Rungs {
			if a.Rungs[group] = int(rung); rung == decide.Withdrawn {
				a.Rungs[group] = len(i.cfg.Ladder(group)) - 1
			}
		}
		list[prefix] = a
	}
	return list
}

func sameAnnouncements(a, b map[netip.Prefix]rhi.Announcement) bool {
	if len(a) != len(b) {
		return false
	}
	for prefix, x := range a {
		y, ok := b[prefix]
		if !ok || len(x.Rungs) != len(y.Rungs) {
			return false
		}
		for group, rung := range x.Rungs {
			if other, ok := y.Rungs[group]; !ok || other != rung {
				return false
			}
		}
	}
	return true
}

// warn logs when there begins to be something about a VIP that somebody should look at, and when there no more is.
func (i *Injector) warn(was, is decide.Decisions) {
	for prefix, now := range is.VIPs {
		switch before := was.VIPs[prefix].Alarms; {
		case len(before) == 0 && len(now.Alarms) > 0:
			i.log.Warn("VIP needs a look", "vip", prefix, "cause", strings.Join(now.Alarms, "; "))
		case len(before) > 0 && len(now.Alarms) == 0:
			i.log.Info("VIP needs no look any more", "vip", prefix)
		}
	}
}

// note logs what moves.
func (i *Injector) note(was, is decide.State) {
	for prefix, now := range is {
		if old := was[prefix]; old.Place != now.Place {
			i.log.Info("VIP moved on the ladder", "vip", prefix, "old", old.Place, "new", now.Place, "cause", now.Why)
			i.metrics.moves.WithLabelValues(string(now.Place)).Inc()
		}
	}
	for prefix, old := range was {
		if _, ok := is[prefix]; !ok {
			i.log.Info("VIP moved on the ladder", "vip", prefix, "old", old.Place, "new", "gone", "cause", "the balancer has it no more")
		}
	}
}
