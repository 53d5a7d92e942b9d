package lb

import (
	"fmt"
	"strings"

	"anycastle/internal/vipreport"
)

// agentLine says how a VIP stands in the words of HAProxy's agent-check. Each line takes back what another may have said:
// ready takes back drain and maint, and up takes back down.
func (l *LB) agentLine(v vipreport.VIP) string {
	switch {
	case v.State == vipreport.Suspended:
		return "maint"
	case v.Draining:
		return "up drain" // established flows are served
	case v.State != vipreport.Active:
		return "down #" + oneLine(v.Why)
	case v.Route == vipreport.RouteWithdrawn:
		return "down #its route is withdrawn: " + oneLine(v.RouteWhy)
	}
	return fmt.Sprintf("ready up %d%%", l.percent(v))
}

// percent is the weight that a VIP should have: what is left of its farm's whole capacity, or if nobody knows that, the part of
// its reals that is in service. It is never 0, which would be a drain.
func (l *LB) percent(v vipreport.VIP) int {
	cfg := l.config()
	p := 100 * v.InService / max(1, v.Reals)
	for i := range cfg.VIPs {
		if cfg.VIPs[i].Name != v.Name {
			continue
		}
		if whole := cfg.farm(cfg.VIPs[i].Farm).Capacity; whole > 0 && v.Flows != vipreport.NotCounted {
			p = 100 * (v.Capacity - v.Flows) / whole
		}
	}
	return min(max(p, 1), 100)
}

// oneLine is text that ends no description.
func oneLine(text string) string { return strings.TrimSpace(strings.ReplaceAll(text, "#", "")) }
