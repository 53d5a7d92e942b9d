package rhi

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// stage is what a router tells its neighbors of learned routes. Another node has one stage: it passes nothing on.
//
// A router whose kernel forwards at once when it begins, and until it has ended, may yet send packets astray, as sessions begin and
// end one after another: it hears of a VIP from the other site before it hears from the balancers at its side, and says so. And the
// neighbors of one that ends go elsewhere at once, some of them a moment before others know of it.
type stage int

const (
	settling stage = iota // nothing, as not all neighbors have come yet that may have the better path
	arriving              // with the own AS once more in the path: a neighbor puts it into its kernel, and does not yet draw traffic with it
	routing               // as configured
	leaving               // as when it arrived: who has another path as good takes that first
)

const (
	upFor     = 200 * time.Millisecond // how long all sessions have to be up before a router says what it has learned from them
	arriveFor = 500 * time.Millisecond // how long neighbors have to put it into their kernels; they tell others before they do
)

// course is where a node is between its beginning and its end, and what its peers are to be told again on the way.
type course struct {
	settle *time.Timer // when to begin to pass on
	leave  *time.Timer // when to end
	again  *retelling
}

// newCourse begins one. On a node that is no router neither timer ends.
func (r *Role) newCourse() *course {
	c := &course{time.NewTimer(time.Hour), time.NewTimer(time.Hour), newRetelling()}
	c.settle.Stop()
	c.leave.Stop()
	if r.stage == settling {
		c.settle.Reset(r.cfg.Router.Settle)
	}
	return c
}

func (c *course) close() {
	c.settle.Stop()
	c.leave.Stop()
	c.again.due.Stop()
}

// firstStage is the one that a node begins with.
func (c *Config) firstStage() stage {
	if c.Router != nil && c.Router.Settle > 0 {
		return settling
	}
	return routing
}

// come takes note that a session has begun: after the last there is not long to wait. Peers that dial from a range may be any
// number.
func (r *Role) come(c *course) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stage == settling && len(r.cfg.Dynamic) == 0 && r.missing() == "" {
		c.settle.Reset(upFor)
	}
}

// missing names the neighbors without a session. Those that are only watched bring no path. The caller holds mu.
func (r *Role) missing() string {
	var names []string
	for _, n := range r.cfg.Neighbors {
		if !n.watched() && r.peers[n.Address].shown.State != established {
			names = append(names, n.Name)
		}
	}
	return strings.Join(names, ", ")
}

// proceed goes on to the next stage of a router that begins.
func (r *Role) proceed(ctx context.Context, s *speaker, c *course) error {
	if r.stage == settling {
		c.settle.Reset(arriveFor)
		return r.enter(ctx, s, arriving)
	}
	return r.enter(ctx, s, routing)
}

// enter begins a stage: all that have a session are told.
func (r *Role) enter(ctx context.Context, s *speaker, to stage) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stage == to {
		return nil
	}
	r.stage = to
	if err := s.setStage(ctx, to); err != nil {
		return err
	}
	r.resend(ctx, s, r.upPeers())
	return nil
}

// end begins the end of a router's course, and says whether there is anything to wait for: nobody comes by a router that has passed
// nothing on.
func (r *Role) end(ctx context.Context, s *speaker, c *course) (bool, error) {
	if r.cfg.Router == nil || r.cfg.Router.Leave == 0 || r.stage == settling || r.alone() {
		return false, nil
	}
	c.settle.Stop()
	c.leave.Reset(r.cfg.Router.Leave)
	r.log.Info("about to end, neighbors are told of longer paths first", "wait", r.cfg.Router.Leave)
	return true, r.enter(ctx, s, leaving)
}

// alone says whether no session is up.
func (r *Role) alone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.upPeers()) == 0
}

// upPeers lists the peers with a session. The caller holds mu.
func (r *Role) upPeers() (up []netip.Addr) {
	for a, p := range r.peers {
		if p.shown.State == established {
			up = append(up, a)
		}
	}
	return up
}

// notYet says why a router passes nothing on yet; empty: it does. The caller holds mu.
func (r *Role) notYet() string {
	if r.stage != settling {
		return ""
	}
	why := fmt.Sprintf("not yet, the router has begun less than %v ago", r.cfg.Router.Settle)
	if missing := r.missing(); missing != "" && len(r.cfg.Dynamic) == 0 {
		why += " and waits for " + missing
	}
	return why
}
