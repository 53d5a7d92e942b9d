package gss

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"anycastle/gss/sign"
	"anycastle/gss/zone"
)

// newSignings makes what signs zones, and keeps what there is already. It opens nothing.
func (s *serving) newSignings(g *GSS, was *serving) error {
	for i, z := range s.zones.Zones() {
		cfg := s.config.Zones[i].DNSSEC
		old := was.signing(z)
		switch {
		case cfg == nil && old == nil:
		case cfg == nil:
			if err := old.mayEnd(); err != nil {
				return err
			}
		case old != nil && old.fits(cfg):
			s.signed[z.Origin()] = old
		default:
			is, err := newSigning(z, *cfg, s.config.StateDir, g.log, g.repack)
			if err != nil {
				return err
			}
			if old != nil {
				is.least = old.serial()
			}
			is.shared = g.shared
			s.signed[z.Origin()] = is
		}
	}
	return nil
}

// signing gives what signs a zone; nil if nothing does, or if nothing is served.
func (s *serving) signing(z *zone.Zone) *signing {
	if s == nil {
		return nil
	}
	return s.signed[z.Origin()]
}

// openKeys opens the keys of zones whose keys are not open yet, gives what it opened, and packs replies with their signatures.
// If one zone's cannot be opened none are, but for forced: then the other zones' are.
func (s *serving) openKeys(ctx context.Context, forced bool) (opened []*signing, err error) {
	for _, is := range s.signed {
		if is.isOpen() {
			continue
		}
		switch err := is.open(ctx); {
		case err == nil:
			opened = append(opened, is)
		case forced:
			is.log.Error("the zone is answered for without signatures until its keys can be opened", "err", err)
		default:
			return nil, errors.Join(err, closeKeys(opened))
		}
	}
	if len(opened) == 0 {
		return nil, nil
	}
	packed, err := s.packStatic()
	if err != nil {
		return nil, errors.Join(err, closeKeys(opened))
	}
	s.packed = packed
	return opened, nil
}

// keysWait is how long a site selector that begins waits for keys from the mesh before it answers without.
const keysWait = 5 * time.Second

// waitKeys waits for them: meanwhile resolvers that validate are better off with the other servers.
func (g *GSS) waitKeys(ctx context.Context) {
	tick := time.NewTicker(keysWait / 100)
	defer tick.Stop()
	missing := func() bool {
		for _, is := range g.engine.serving().signed {
			if is.shared != nil && is.follows() && !is.signs() {
				return true
			}
		}
		return false
	}
	for end := time.Now().Add(keysWait); missing() && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// follows says whether the keys are another server's to roll.
func (s *signing) follows() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.Follow
}

func closeKeys(list []*signing) (err error) {
	for _, is := range list {
		err = errors.Join(err, is.close())
	}
	return err
}

// openKeys opens the keys of all zones that are signed, as far as that can be done: what is wrong with the keys of one takes no
// other from its clients, nor any of its names. That a zone is not signed any more which has to be is an error.
func (g *GSS) openKeys(ctx context.Context) error {
	was := g.engine.serving()
	if err := was.checkUnsigned(time.Now()); err != nil {
		return err
	}
	next := *was
	opened, err := next.openKeys(ctx, true)
	if err == nil && len(opened) > 0 {
		g.engine.replace(was, &next)
	}
	return err
}

// resign has the zones of a config be signed as it says from now on.
func (g *GSS) resign(next *serving) {
	for i, z := range next.zones.Zones() {
		if is := next.signed[z.Origin()]; is != nil {
			is.adopt(*next.config.Zones[i].DNSSEC)
		}
	}
	select {
	case g.resigned <- struct{}{}:
	default: // it will look already
	}
}

// tend goes on with the keys of the zones that are signed at any time until ctx is done, and closes those that are not needed
// any more.
func (g *GSS) tend(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	stops := map[*signing]context.CancelFunc{}
	changed, unwatch := g.engine.data.Watch()
	defer unwatch()
	for {
		signed := g.engine.serving().signed
		for is, stop := range stops {
			if signed[is.origin] != is {
				stop()
				delete(stops, is)
			}
		}
		for _, is := range signed {
			if stops[is] != nil {
				continue
			}
			running, stop := context.WithCancel(ctx)
			stops[is] = stop
			wg.Go(func() {
				defer stop()
				is.run(running)
				if err := is.close(); err != nil {
					g.log.Warn("close keys", "err", err)
				}
			})
		}
		if g.shared != nil {
			g.shared.leave(func(zone string) bool { return signed[zone] != nil && signed[zone].shares() })
		}
		select {
		case <-ctx.Done():
			return
		case <-g.resigned:
		case <-changed:
			for is := range stops {
				if is.heard() {
					is.look()
				}
			}
		}
	}
}

// look has the keys be looked at soon.
func (s *signing) look() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look already
	}
}

// shares says whether the mesh has the keys.
func (s *signing) shares() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.Share
}

// fits says whether the keys of a config are those that are open.
func (s *signing) fits(cfg *DNSSEC) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys(&s.config) == s.keys(cfg) && s.config.Follow == cfg.Follow
}

// adopt has another config count, whose keys are the same.
func (s *signing) adopt(cfg DNSSEC) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reflect.DeepEqual(s.config, cfg) {
		return
	}
	s.config, s.parent = cfg, cfg.parent()
	if s.keeper != nil {
		if err := s.keeper.SetPolicy(cfg.policy()); err != nil { // the config was checked for it
			s.log.Error("keys go on by the former policy", "err", err)
		}
	}
	s.look()
}

// mayEnd is nil if no resolver expects signatures, so that the zone may be without.
func (s *signing) mayEnd() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.decision.Expected {
		return nil
	}
	return errExpected(s.origin)
}

func errExpected(origin string) error {
	return fmt.Errorf("dnssec of %s is gone, but resolvers may still expect signatures; put it back with `insecure: true`, "+
		"and remove it when `anycastle show key` has no key of the zone any more", bare(origin))
}

// checkUnsigned is an error if a zone that is not to be signed was signed before, with keys in the usual directory, and resolvers
// may expect that it still is.
func (s *serving) checkUnsigned(now time.Time) error {
	dir := keyFolder(s.config.StateDir)
	for _, z := range s.zones.Zones() {
		if s.signed[z.Origin()] != nil {
			continue
		}
		store, err := sign.OpenStore(dir, z.Origin())
		if err != nil {
			return nil // nothing was signed with keys there
		}
		state, _, err := store.Load()
		if err == nil && sign.Look(state, sign.DefaultPolicy(), now).Expected {
			return fmt.Errorf("%w; if its parent has no DS record any more, move its keys out of %s", errExpected(z.Origin()), dir)
		}
	}
	return nil
}

// keyFolder is where keys are that have no folder of their own.
func keyFolder(stateDir string) string { return filepath.Join(stateDir, "keys") }

// serial is that of the keys in use.
func (s *signing) serial() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.decision.Serial
}
