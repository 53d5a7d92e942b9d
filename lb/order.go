package lb

import (
	"context"
	"errors"
	"fmt"
	"reflect"
)

// ErrNotRunning says that Run does not run.
var ErrNotRunning = errors.New("the balancer does not run")

// Order gives an order about a real, which survives a restart and reaches the other LBs of the site. A drain without a
// deadline gets that of the farm's transition time. The order as it is kept is returned.
func (l *LB) Order(o Order) (Order, error) {
	f, real := l.config().find(realID{o.Farm, o.Real})
	if real == nil {
		return Order{}, fmt.Errorf("farm %q has no real %q; `anycastle show real` lists those there are", o.Farm, o.Real)
	}
	o.Since = now()
	if o.Kind == KindDrain && o.Deadline.IsZero() {
		o.Deadline = o.Since.Add(f.Transition.Time)
	}
	if latest := o.Since.Add(maxTransition); o.Deadline.After(latest) {
		return Order{}, fmt.Errorf("a deadline of %v is more than %v away", o.Deadline, maxTransition)
	}
	text, err := o.Encode()
	if err != nil {
		return Order{}, err
	}
	if err := l.data.Set(o.Key(), text); err != nil {
		return Order{}, fmt.Errorf("keep the order: %w", err)
	}
	return o, nil
}

// Reload has a config, which Validate found nothing wrong with, take the place of the one that is in force. If it cannot,
// nothing changes.
func (l *LB) Reload(ctx context.Context, cfg Config) error {
	l.mu.Lock()
	running := l.running
	l.mu.Unlock()
	if !running {
		return ErrNotRunning
	}
	done := make(chan error, 1)
	reload := func(l *loop) bool {
		err := l.reload(&cfg)
		done <- err
		return err == nil
	}
	select {
	case l.events <- reload:
		return <-done
	case <-l.ended:
		return ErrNotRunning
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reload takes over a config that differs in nothing that a running process holds on to.
func (l *loop) reload(cfg *Config) error {
	old := l.in.cfg
	if err := old.mayBecome(cfg); err != nil {
		return err
	}
	before := l.in.farms
	l.in.setConfig(cfg)
	l.changed = true
	l.waitForHops()
	if err := l.tellWatchers(); err != nil {
		l.in.cfg, l.in.farms = old, before
		l.changed = true
		return errors.Join(err, l.tellWatchers())
	}
	l.in.forget()
	for id := range l.probing {
		if _, real := cfg.find(id); real == nil {
			delete(l.probing, id)
		}
	}
	l.setConfig(cfg)
	return nil
}

// mayBecome says what of a config a running process cannot take over.
func (c *Config) mayBecome(next *Config) error {
	for _, same := range []struct {
		key      string
		was, now any
	}{
		{"uplinks", c.Uplinks, next.Uplinks}, {"hash_key", c.HashKey, next.HashKey}, {"state_dir", c.StateDir, next.StateDir},
		{"tls", c.TLS, next.TLS}, {"mesh", c.Mesh, next.Mesh}, {"report", c.Report, next.Report},
		{"vips[].agent_check", c.agentChecks(), next.agentChecks()},
	} {
		if !reflect.DeepEqual(same.was, same.now) {
			return fmt.Errorf("lb.%s has changed, which only a restart can take over: packets flow on through one", same.key)
		}
	}
	return nil
}

func (l *LB) setConfig(cfg *Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg = cfg
}
