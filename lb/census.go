package lb

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anycastle/bpf"
	"anycastle/internal/flowhash"
	"anycastle/lb/agent"

	"golang.org/x/sync/errgroup"
)

const (
	censusTime  = 4 * time.Second // for all agents together; the socket gives an answer 5 s
	censusMost  = 100_000         // flows asked of one agent
	censusAsks  = 64              // agents asked at a time
	censusBatch = 1024            // flows looked for in the store at a time, between two changes of the loop
)

// Who knows of a flow.
const (
	FromAgent   = "agent"   // the real's agent: it has a socket for it
	FromTracked = "tracked" // the balancer's store of flows that began in a transition
)

// liveFlow is a flow of which somebody knows.
type liveFlow struct {
	flow
	choice choice
	name   *VIP
	farm   string
	real   string
	at     netip.Addr // of the real
	source string
	stored uint16 // the index of the real that it is stored with
}

// UnknownFlows says of which flows nothing is known.
type UnknownFlows struct {
	Farm string `json:"farm"`
	Real string `json:"real,omitempty"` // empty: all of the farm
	Why  string `json:"why"`
}

// census finds the flows that live.
type census struct {
	lb      *LB
	s       *snapshot
	chooser chooser
	vips    map[vipKey]*VIP
	wanted  func(realID) bool
	owners  map[netip.AddrPort]map[string]string // names of the reals behind an agent, by farm
	tracks  bool                                 // the store holds what is looked for there
	own     map[netip.Addr]bool                  // addresses that this balancer probes from

	mu      sync.Mutex
	take    func(liveFlow)
	unknown []UnknownFlows
	heard   map[netip.Addr]bool // by an agent that answered
}

// live gives every flow of the wanted reals that agents list or the balancer tracks to take, one at a time, and says of which
// it does not know. Agents are asked side by side; that one does not answer is no error.
func (l *LB) live(ctx context.Context, s *snapshot, wanted func(realID) bool, take func(liveFlow)) ([]UnknownFlows, error) {
	c := &census{lb: l, s: s, chooser: chooser{s.have, flowhash.Key(s.in.cfg.HashKey)}, vips: s.in.cfg.vipsByKey(), wanted: wanted,
		owners: map[netip.AddrPort]map[string]string{}, tracks: s.have.tracks(), take: take, heard: map[netip.Addr]bool{},
		own: map[netip.Addr]bool{}}
	for _, hop := range s.in.hops {
		c.own[hop.Source] = true
	}
	c.plan()
	soon, cancel := context.WithTimeout(ctx, censusTime)
	defer cancel()
	g, soon := errgroup.WithContext(soon)
	g.SetLimit(censusAsks)
	for _, t := range slices.SortedFunc(maps.Keys(c.owners), netip.AddrPort.Compare) {
		g.Go(func() error { return c.ask(soon, t) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := c.readStore(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(c.unknown, func(a, b UnknownFlows) int { return cmp.Or(cmp.Compare(a.Farm, b.Farm), cmp.Compare(a.Real, b.Real)) })
	return c.unknown, nil
}

// plan finds whom to ask.
func (c *census) plan() {
	for i := range c.s.in.cfg.Farms {
		f := &c.s.in.cfg.Farms[i]
		some := false
		for addr, is := range c.s.in.situations(f) {
			if !c.wanted(realID{f.Name, is.name}) {
				continue
			}
			some = true
			if f.Agent == nil {
				continue
			}
			t := netip.AddrPortFrom(addr, f.Agent.Port)
			if c.owners[t] == nil {
				c.owners[t] = map[string]string{}
			}
			c.owners[t][f.Name] = is.name
		}
		switch {
		case !some || f.Agent != nil:
		case c.tracks:
			c.unknown = append(c.unknown, UnknownFlows{Farm: f.Name, Why: "it has no agent: only flows that began in a transition are known"})
		default:
			c.unknown = append(c.unknown, UnknownFlows{Farm: f.Name, Why: "it has no agent, and a balancer remembers flows only while slots are in transition"})
		}
	}
}

// ask has an agent list the flows of its real.
func (c *census) ask(ctx context.Context, t netip.AddrPort) error {
	var batch []liveFlow
	var broken error // of ours, and not of the agent
	flush := func() error {
		broken = c.deliver(ctx, batch)
		batch = batch[:0]
		return broken
	}
	n, err := c.s.agents.Flows(ctx, t, censusMost, func(f agent.Flow) error {
		if l, ok := c.place(flowOf(f), t); ok {
			batch = append(batch, l)
		}
		if len(batch) < censusBatch {
			return nil
		}
		return flush()
	})
	if broken == nil {
		flush() // also what came before an error
	}
	if broken != nil && ctx.Err() == nil {
		return broken
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard[t.Addr()] = err == nil
	why := ""
	switch {
	case err != nil:
		why = clip(fmt.Sprintf("agent %v: %v", t, err))
	case n == censusMost:
		why = fmt.Sprintf("agent %v: it lists no more than %d flows", t, n)
	}
	for farm, name := range c.owners[t] {
		if why != "" {
			c.unknown = append(c.unknown, UnknownFlows{farm, name, why})
		}
	}
	return nil
}

// place finds the VIP, slot and real of a flow that a real's agent lists. It may be of a VIP of other balancers, or a probe.
func (c *census) place(f flow, from netip.AddrPort) (liveFlow, bool) {
	ch, ok := c.chooser.find(f)
	if !ok || c.own[f.client.Addr()] || c.vips[ch.vip] == nil {
		return liveFlow{}, false
	}
	vip := c.vips[ch.vip]
	name, ok := c.owners[from][vip.Farm]
	return liveFlow{flow: f, choice: ch, name: vip, farm: vip.Farm, real: name, at: from.Addr(), source: FromAgent}, ok
}

// deliver passes flows on, with what the store says of them.
func (c *census) deliver(ctx context.Context, flows []liveFlow) error {
	if c.tracks && len(flows) > 0 {
		var err error
		asked := c.lb.ask(ctx, func(l *loop) {
			for i := range flows {
				if flows[i].stored, err = l.plane.StoredFlow(flows[i].flow); err != nil {
					return
				}
			}
		})
		if asked != nil {
			return asked
		}
		if err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range flows {
		c.take(f)
	}
	return nil
}

// readStore adds the flows that the balancer itself remembers and no agent has listed. One that its real's agent does not
// list has ended, unless it is of a protocol that has no connections.
func (c *census) readStore(ctx context.Context) error {
	if !c.tracks {
		return nil
	}
	var from bpf.TrackedCursor
	for more := true; more; {
		var batch []bpf.TrackedFlow
		var err error
		asked := c.lb.ask(ctx, func(l *loop) { batch, more, err = l.plane.TrackedFlows(&from) })
		if asked != nil {
			return asked
		}
		if err != nil {
			return err
		}
		for _, t := range batch {
			if l, ok := c.placeStored(t); ok {
				c.take(l)
			}
		}
	}
	return nil
}

func (c *census) placeStored(t bpf.TrackedFlow) (liveFlow, bool) {
	f := flow{t.Client, t.VIP, t.Proto}
	ch, ok := c.chooser.find(f)
	// what is stored of a slot that is at rest is of an earlier transition, and nobody looks at it
	if !ok || c.vips[ch.vip] == nil || ch.known && !ch.pair.moving() && !ch.entry.followAll {
		return liveFlow{}, false
	}
	vip, at := c.vips[ch.vip], c.chooser.addr(t.Real)
	l := liveFlow{flow: f, choice: ch, name: vip, farm: vip.Farm, real: c.s.in.nameOf(vip.Farm, at), at: at, source: FromTracked, stored: t.Real}
	if l.real == "" || !c.wanted(realID{l.farm, l.real}) || f.proto == protoTCP && c.heard[at] {
		return liveFlow{}, false
	}
	return l, true
}
