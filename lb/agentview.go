package lb

import (
	"math"
	"strings"
	"time"
	"unicode"

	"anycastle/internal/probe"
	"anycastle/lb/agent"
)

// agentView is what the agent of a real has said of it, as a real of one farm.
type agentView struct {
	flows   flowCount
	counted time.Time // when flows were
	first   int       // flows when the drain began
	since   time.Time // when they were counted; zero: it does not drain
	percent int       // of the weight, by its load; 0: not known
	accused accusation
}

// accusation takes a real out until its probes have passed as often as they must.
type accusation struct {
	why    string // empty: there is none
	held   bool   // it does not take the real out: probes decide
	at     time.Time
	passes map[targetID]int // in a row, since then
}

// fails says why the real is out by it; empty: it is not.
func (a *accusation) fails() string {
	if a.held {
		return ""
	}
	return a.why
}

// shown is the reason of a real that is in service in spite of it; empty: there is none.
func (a *accusation) shown() string {
	if !a.held {
		return ""
	}
	return a.why + "; in service until a probe fails: by agents' word half of a farm stays"
}

// takeAgent notes what an agent says of a real of a farm, and says whether the real is to be probed at once. draining says
// since when the real drains; zero: it does not. spare says whether its farm can do without it.
func (v *agentView) takeAgent(cfg *Config, f *Farm, u agentUpdate, draining time.Time, spare bool) (doubt bool) {
	if u.Err != nil {
		v.flows = flowCount{} // what it was says nothing of what it is
		return false
	}
	v.percent = loadPercent(u.Report.Load, v.percent)
	v.countFlows(cfg, f, u.Report, draining)
	for _, verdict := range u.Verdicts {
		if !cfg.serves(f, verdict.Port) {
			continue
		}
		if verdict.Conclusive {
			out := spare || v.accused.fails() != ""
			v.accused = accusation{why: verdict.Why, held: !out, at: u.At, passes: map[targetID]int{}}
		}
		doubt = doubt || !verdict.Conclusive || v.accused.held
	}
	return doubt
}

// countFlows counts reports of no flow only while the real drains, and one count once.
func (v *agentView) countFlows(cfg *Config, f *Farm, r agent.Report, draining time.Time) {
	if r.Counted.IsZero() {
		return
	}
	left := 0
	for _, p := range r.VIPs {
		if cfg.serves(f, p.Key()) {
			left += p.Flows
		}
	}
	zeros := v.flows.zeros
	switch {
	case left > 0 || draining.IsZero() || r.Counted.Before(draining):
		zeros = 0
	case !r.Counted.Equal(v.counted):
		zeros++
	}
	switch {
	case draining.IsZero():
		v.since = time.Time{}
	case v.since.IsZero() && v.flows.known && v.flows.left > left:
		v.first, v.since = v.flows.left, v.counted // some have ended already
	case v.since.IsZero(), left > v.first: // in the latter case the count that it began with was of before
		v.first, v.since = left, r.Counted
	}
	v.flows, v.counted = flowCount{known: true, left: left, zeros: zeros}, r.Counted
}

// eta is when a drain will have no flow left if flows go on ending as they have; zero: nobody can say.
func (v *agentView) eta() time.Time {
	ended := v.first - v.flows.left
	if !v.flows.known || v.since.IsZero() || ended <= 0 {
		return time.Time{}
	}
	took := v.counted.Sub(v.since)
	return v.counted.Add(time.Duration(float64(took) * float64(v.flows.left) / float64(ended)))
}

// serves says whether a port is one of the farm's VIPs.
func (c *Config) serves(f *Farm, k agent.Key) bool {
	for i := range c.VIPs {
		v := &c.VIPs[i]
		if v.Farm == f.Name && v.Address == k.VIP.Addr() && v.Protocol == k.Protocol && v.Port.overlaps(OnePort(k.VIP.Port())) {
			return true
		}
	}
	return false
}

// clear notes a probe's result and says whether it ends the accusation: every probe of the real must have passed as often
// as brings a failed real back.
func (a *accusation) clear(id targetID, r probe.Result, targets []target) bool {
	if a.why == "" || r.At.Before(a.at) {
		return false
	}
	if a.passes[id]++; r.Err != nil {
		a.passes[id] = 0
	}
	for _, t := range targets {
		if a.passes[t.id] < t.config.Pass {
			return false
		}
	}
	*a = accusation{}
	return true
}

const (
	// Weights follow loads in tens of percent, and a load that moves to and fro about a limit moves none.
	loadStep, loadSlack = 10, 3
	// leastPercent is left to the busiest: it would have no more flows to show that it is less busy.
	leastPercent = 10
)

// loadPercent gives the part of its weight that a real's load leaves it. was is what it was; 0: not known.
func loadPercent(load float64, was int) int {
	free := 100 * (1 - load)
	p := int(math.Round(free/loadStep)) * loadStep
	if was > 0 && math.Abs(free-float64(was)) < loadStep/2+loadSlack {
		p = was
	}
	return min(max(p, leastPercent), 100)
}

// clipTo makes one line of printable text of at most n bytes.
func clipTo(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}
