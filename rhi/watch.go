package rhi

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"anycastle/internal/config"
)

// tableTime is how long a peer may take to send its table, if it does not say when it has.
const tableTime = 3 * time.Second

// Watched is what the neighbors that watch a site have of its routes now.
type Watched struct {
	Known    bool                  `json:"known"`    // one of them has sent its whole table: a prefix that is not in Prefixes is not there
	At       time.Time             `json:"at"`       // when it was read
	Prefixes map[netip.Prefix]bool `json:"prefixes"` // that one of them has, be it by a way that leads to this very node
}

// watched says whether the neighbor is only watched.
func (n *Neighbor) watched() bool { return len(n.Watches) > 0 }

// isWatched says whether an address is of a neighbor that is only watched.
func (c *Config) isWatched(a netip.Addr) bool {
	return slices.ContainsFunc(c.Neighbors, func(n Neighbor) bool { return n.Address == a && n.watched() })
}

func (n *Neighbor) validateWatches(at config.Cursor) {
	if at.Has("watches") && !n.watched() {
		at.Key("watches").Errorf("none given; name the sites whose routes this peer has, or remove it")
	}
	for i, site := range n.Watches {
		at := at.Key("watches").Index(i)
		switch {
		case site == "":
			at.Errorf("empty; give the name of a site")
		case slices.Contains(n.Watches[:i], site):
			at.Errorf("%q is given twice; keep one", site)
		}
	}
	for _, key := range []string{"group", "next_hop", "prepend"} {
		if n.watched() && at.Has(key) {
			at.Key(key).Errorf("nothing is sent to a peer that is only watched; remove it, or remove watches")
		}
	}
}

// Watched gives, for each site that a neighbor watches, what is there of its routes. What a lost session told is forgotten.
// Known may become true without a call of Options.Changed, as time goes by.
func (r *Role) Watched() map[string]Watched {
	r.mu.Lock()
	s := r.speaker
	r.mu.Unlock()
	sites := map[string]Watched{}
	for i := range r.cfg.Neighbors {
		n := &r.cfg.Neighbors[i]
		prefixes, known := r.look(s, n)
		for _, site := range n.Watches {
			w, ok := sites[site]
			if !ok {
				w.Prefixes = map[netip.Prefix]bool{}
			}
			w.At, w.Known = time.Now(), w.Known || known
			for _, p := range prefixes {
				w.Prefixes[p] = true
			}
			sites[site] = w
		}
	}
	return sites
}

// look gives what a watched neighbor has sent, and whether that is all it has to say. The session is read before and
// after: a table that was lost meanwhile would look like one that has become empty.
func (r *Role) look(s *speaker, n *Neighbor) (prefixes []netip.Prefix, known bool) {
	if s == nil || !n.watched() {
		return nil, false
	}
	ctx := context.Background()
	before, err := s.sessions(ctx, n.Address)
	session, up := before[n.Address]
	if err == nil && up {
		prefixes, err = s.received(n.Address, n.peers().families())
	}
	after, afterErr := s.sessions(ctx, n.Address)
	if err := errors.Join(err, afterErr); err != nil {
		r.log.Warn("look at watched peer", "peer", n.Name, "err", err)
		return nil, false
	}
	if now, still := after[n.Address]; !up || !still || !session.same(now) {
		return nil, false
	}
	return prefixes, session.complete || time.Since(session.began) >= tableTime+time.Second // began is known to the second
}

// Standing gives, for each own prefix that is announced, at how many peers it stands: those with a session, of its family,
// whose group is not at withdrawn. Peers that are only watched do not count.
func (r *Role) Standing() map[netip.Prefix]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	standing := map[netip.Prefix]int{}
	if r.speaker == nil {
		return standing
	}
	own, _, err := r.announced()
	sessions, sessionsErr := r.speaker.sessions(context.Background(), netip.Addr{})
	if err := errors.Join(err, sessionsErr); err != nil {
		r.log.Warn("read what stands announced", "err", err)
		return standing
	}
	groups, last := r.cfg.groupNames(), r.cfg.lastRungs()
	for p, rungs := range own {
		standing[p] = 0
		for a, s := range sessions {
			peer := r.peers[a]
			if peer == nil || peer.watched() || rungs == nil || !slices.Contains(s.families, routeFamily(p.Addr())) {
				continue
			}
			if g := slices.Index(groups, peer.Group); rungs[g] < last[g] {
				standing[p]++
			}
		}
	}
	return standing
}
