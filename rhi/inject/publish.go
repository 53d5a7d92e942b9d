package inject

import (
	"errors"
	"net/netip"
	"time"

	"anycastle/rhi/decide"
)

// publish tells the others what has changed since the last telling, or all. The caller holds mu. It does not wait.
func (i *Injector) publish(all bool) {
	if i.mesh == nil {
		return
	}
	now := map[netip.Prefix]decide.Report{}
	for prefix, d := range i.last.VIPs {
		now[prefix] = d.Report
	}
	tell := map[netip.Prefix]decide.Report{}
	for prefix, r := range now {
		if all || r.Generation != i.said[prefix].Generation {
			tell[prefix] = r
		}
	}
	for prefix, r := range i.said {
		if _, ok := now[prefix]; !ok {
			tell[prefix] = farewell(r)
		}
	}
	if len(tell) == 0 && !all {
		return
	}
	texts, err := encodeTellings(i.site, i.boot.UnixNano(), &i.number, tell)
	for _, text := range texts {
		err = errors.Join(err, i.mesh.Tell(text))
	}
	if err != nil {
		i.metrics.untold.Inc()
		i.log.Debug("tell the other balancers", "err", err)
	}
	i.said = now
}

// farewell is the report of a VIP that this balancer has no more: who rests on it must come back at once.
func farewell(r decide.Report) decide.Report {
	return decide.Report{Generation: max(time.Now().UnixNano(), r.Generation+1), Role: r.Role, Place: decide.PlaceWithdrawn}
}
