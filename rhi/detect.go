package rhi

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"anycastle/internal/config"
	"anycastle/rhi/bfd"
)

// BFD has a neighbor's loss noticed within a fraction of a second (RFC 5880, 5882). It must be set up at both ends.
type BFD struct {
	Interval   time.Duration `yaml:"interval"`   // between packets, in both directions, 10ms to 1m; default 300ms. The longer one of both ends counts.
	Multiplier int           `yaml:"multiplier"` // intervals of silence after which the peer is lost, 1 to 255; default 3
	Multihop   bool          `yaml:"multihop"`   // speak on port 4784 (RFC 5883); default: if the neighbor has multihop. FRR 8 does so on a link too, if it has ttl-security.
	Local      netip.Addr    `yaml:"local"`      // own address; needed with multihop; default the neighbor's local, or the kernel's choice
	MinTTL     int           `yaml:"min_ttl"`    // with multihop, the least TTL of a packet; default 254. BIRD sends with 64.
	KeyID      int           `yaml:"key_id"`     // with secret, its number at both ends, 0 to 255; default 0
	Secret     string        `yaml:"secret"`     // meticulous keyed SHA1, 1 to 20 characters; default no authentication
}

// SetDefaults implements config.Defaulter.
func (b *BFD) SetDefaults() { b.Interval, b.Multiplier = bfd.DefaultInterval, bfd.DefaultMultiplier }

// bfdConfig is the BFD session of a neighbor that has one.
func (n *Neighbor) bfdConfig() bfd.Config {
	local := n.BFD.Local
	if !local.IsValid() {
		local = n.Local
	}
	return bfd.Config{
		Peer: n.Name, Remote: n.Address, Local: local, Multihop: n.Multihop > 0 || n.BFD.Multihop, MinTTL: uint8(n.BFD.MinTTL),
		Transmit: n.BFD.Interval, Receive: n.BFD.Interval, Multiplier: uint8(n.BFD.Multiplier),
		Key: bfd.Key{ID: uint8(n.BFD.KeyID), Secret: n.BFD.Secret},
	}
}

func (n *Neighbor) validateBFD(at config.Cursor) {
	if n.BFD == nil {
		return
	}
	for _, f := range []struct {
		key   string
		least int
		value int
	}{{"multiplier", 1, n.BFD.Multiplier}, {"min_ttl", 0, n.BFD.MinTTL}, {"key_id", 0, n.BFD.KeyID}} {
		if f.value < f.least || f.value > 255 {
			at.Key(f.key).Errorf("%d is out of range; use %d to 255", f.value, f.least)
			return
		}
	}
	if n.Name == "" || !n.Address.IsValid() {
		return // that is said already
	}
	if err := n.bfdConfig().Validate(); err != nil {
		at.Errorf("%v", err)
	}
}

// detector is BFD for the neighbors that have it.
type detector struct {
	bfd    *bfd.Speaker
	lost   chan bfd.Change // ways to peers that were lost
	failed chan error      // it ended by itself
	end    context.CancelFunc
	wg     sync.WaitGroup
}

// detect starts BFD; nil if no neighbor has it. Its changes are told until ctx ends, and it goes on until stop.
func (r *Role) detect(ctx context.Context) (*detector, error) {
	var sessions []bfd.Config
	for i := range r.cfg.Neighbors {
		if n := &r.cfg.Neighbors[i]; n.BFD != nil {
			sessions = append(sessions, n.bfdConfig())
		}
	}
	if len(sessions) == 0 {
		return nil, nil
	}
	d := &detector{lost: make(chan bfd.Change), failed: make(chan error, 1)}
	d.bfd = bfd.New(bfd.Options{Prefer: true, Log: r.log, Registry: r.registry, Changed: func(c bfd.Change) {
		if !c.PeerLost() {
			return
		}
		select {
		case d.lost <- c:
		case <-ctx.Done():
		}
	}})
	if err := d.bfd.SetSessions(sessions); err != nil {
		return nil, fmt.Errorf("set up BFD: %w", err)
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	d.end = end
	d.wg.Go(func() {
		if err := d.bfd.Run(life); err != nil {
			d.failed <- fmt.Errorf("speak BFD: %w", err)
		}
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.detector = d
	return d, nil
}

// stop takes leave of the peers. BGP has ended by then: FRR and BIRD take AdminDown for a loss, though RFC 5882 3.2 says that it
// is none.
func (d *detector) stop() {
	if d != nil {
		d.end()
		d.wg.Wait()
	}
}

// channels gives where news come from; from none, if there is no BFD.
func (d *detector) channels() (<-chan bfd.Change, <-chan error) {
	if d == nil {
		return nil, nil
	}
	return d.lost, d.failed
}

// noteLost ends the BGP session with a peer that cannot be reached any more: what it has announced is no way. The session is
// dialled again at once, and comes up when the way is back.
func (r *Role) noteLost(c bfd.Change) (todo repair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.peers {
		if p.dynamic || p.Name != c.Peer || p.shown.State != established {
			continue
		}
		r.tellLost(p)
		now := time.Now()
		p.shown.State, p.stepped, p.renewed = "idle", now, now
		r.noteDown(p, "lost by BFD: "+c.Why, now)
		todo.renew = &p.Neighbor
	}
	return todo
}

// BFD gives the BFD sessions, by name; none before Run, or if no neighbor has one.
func (r *Role) BFD() []bfd.Status {
	r.mu.Lock()
	d := r.detector
	r.mu.Unlock()
	if d == nil {
		return []bfd.Status{}
	}
	return d.bfd.Status()
}
