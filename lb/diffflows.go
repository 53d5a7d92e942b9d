package lb

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"
)

// FlowMotion is what would become of the live flows that are known.
type FlowMotion struct {
	FlowCounts
	Farms   []FarmFlows    `json:"farms"`
	List    []FlowMove     `json:"list"` // of those that would move, what would break first
	More    int            `json:"more"` // of these, that are not in the list
	Unknown []UnknownFlows `json:"unknown"`
}

// FlowCounts counts flows by what would become of them.
type FlowCounts struct {
	Known  int `json:"known"`
	Stay   int `json:"stay"`
	Later  int `json:"later"`  // stay until a transition ends: those that have not ended by then break
	Break  int `json:"break"`  // at once: their next packet goes to a real that does not know them
	Anyway int `json:"anyway"` // move as well, and at the same time, if the config stays as it is
	Astray int `json:"astray"` // their packets do not get to their real even now
}

// FarmFlows are the counts of one farm.
type FarmFlows struct {
	Farm string `json:"farm"`
	FlowCounts
}

// FlowMove is a flow that would move.
type FlowMove struct {
	FlowStatus
	To  string    `json:"to"` // FARM/NAME of the real that its packets would go to; empty: to none
	Now bool      `json:"now"`
	At  time.Time `json:"at"`  // when it would move
	Why string    `json:"why"` // why it would, or what keeps it until then
}

// fate is when a flow's packets first go to another real than its own.
type fate struct {
	phase  *phase // nil: never
	choice choice
	ok     bool // a VIP takes it then
	to     netip.Addr
}

// fateOf follows a flow through phases.
func fateOf(f liveFlow, phases []*phase) fate {
	stored := f.stored
	for _, p := range phases {
		if p.forgets {
			stored = none
		}
		ch, ok := p.find(f.flow)
		if !ok {
			return fate{phase: p}
		}
		if to := p.goesTo(ch, f.proto, f.at, stored); to != f.at {
			return fate{phase: p, choice: ch, ok: true, to: to}
		}
	}
	return fate{}
}

// as says whether a flow moves at the same time, or sooner, without the config.
func (f fate) as(base fate) bool {
	return base.phase != nil && !base.phase.at.After(f.phase.at) && (!f.phase.soon || base.phase.soon)
}

// motion works out what becomes of the live flows.
func (l *LB) motion(ctx context.Context, s *snapshot, c *comparison, limit int) (*FlowMotion, error) {
	var base []*phase
	if !s.in.deadline(s.at).IsZero() {
		base = s.predict(s.in.cfg)
	}
	m := &FlowMotion{Farms: []FarmFlows{}}
	kept := least[FlowMove]{limit: limit, compare: FlowMove.compare}
	farms := map[string]*FlowCounts{}
	unknown, err := l.live(ctx, s, func(realID) bool { return true }, func(f liveFlow) {
		if farms[f.farm] == nil {
			farms[f.farm] = &FlowCounts{}
		}
		count := farms[f.farm]
		count.Known++
		if fateOf(f, []*phase{c.now}).phase != nil {
			count.Astray++
			return
		}
		next := fateOf(f, c.then)
		switch {
		case next.phase == nil:
			count.Stay++
			return
		case next.as(fateOf(f, base)):
			count.Anyway++
			return
		case next.phase.soon:
			count.Break++
		default:
			count.Later++
		}
		kept.add(c.move(s, f, next))
	})
	if err != nil {
		return nil, err
	}
	for i := range s.in.cfg.Farms {
		if n := farms[s.in.cfg.Farms[i].Name]; n != nil {
			m.Farms = append(m.Farms, FarmFlows{s.in.cfg.Farms[i].Name, *n})
			m.FlowCounts.add(*n)
		}
	}
	m.List, m.More = kept.take()
	m.Unknown = append([]UnknownFlows{}, unknown...)
	return m, nil
}

func (c *FlowCounts) add(o FlowCounts) {
	c.Known += o.Known
	c.Stay += o.Stay
	c.Later += o.Later
	c.Break += o.Break
	c.Anyway += o.Anyway
	c.Astray += o.Astray
}

func (c *comparison) move(s *snapshot, f liveFlow, to fate) FlowMove {
	m := FlowMove{FlowStatus: s.status(f), Now: to.phase.soon, At: to.phase.at, Why: c.why(f, to)}
	if !to.ok {
		return m
	}
	if vip := to.phase.vips[to.choice.vip]; vip != nil && to.to.IsValid() {
		m.To = vip.Farm + "/" + to.phase.who.nameOf(vip.Farm, to.to)
	}
	return m
}

// why says why a flow moves.
func (c *comparison) why(f liveFlow, to fate) string {
	if !to.ok {
		return "no VIP takes it any more"
	}
	vip := to.phase.vips[to.choice.vip]
	switch {
	case vip == nil:
		return "no VIP takes it any more"
	case to.choice.vip != f.choice.vip:
		return fmt.Sprintf("VIP %s takes it", vip.Name)
	case vip.Farm != f.farm:
		return fmt.Sprintf("its VIP leads to farm %s", vip.Farm)
	case c.old.HashKey != c.next.HashKey:
		return "another hash_key: it has another slot"
	case vip.hash() != f.name.hash():
		return fmt.Sprintf("its VIP has hash %s, before %s: it has another slot", vip.hash(), f.name.hash())
	case to.phase.soon:
		return "its slot gets another real, and nothing keeps it"
	}
	return "kept by " + c.next.farm(f.farm).Transition.Method + " until then"
}

func (m FlowMove) compare(o FlowMove) int {
	if m.Now != o.Now {
		if m.Now {
			return -1
		}
		return 1
	}
	return cmp.Or(m.At.Compare(o.At), m.FlowStatus.compare(o.FlowStatus))
}
