package inject

import (
	"net/netip"
	"time"

	"anycastle/rhi/decide"
)

// inputs gathers all that a decision is made from. The caller holds mu.
func (i *Injector) inputs(now time.Time) decide.Inputs {
	in := decide.Inputs{Site: i.name, Boot: i.boot, Config: i.cfg.Decide(), VIPs: map[netip.Prefix]decide.VIP{}}
	standing, watched := i.speaker.Standing(), i.speaker.Watched()
	i.standing = standing
	orders := i.orders()
	for prefix, v := range i.services {
		if i.speaker.Refuse(prefix) != "" {
			continue // nobody can be told of it: it counts for nothing
		}
		v.Sent = decide.Sent{Known: true, Peers: standing[prefix]}
		v.Order = orders.of(i.site, prefix)
		v.Sites = i.others.of(prefix, i.holdsFor(prefix), now)
		for name, s := range v.Sites {
			w, ok := watched[name]
			if !ok {
				w, ok = watched[i.others.siteOf(name)] // a peer may be said to have what all of a site announce
			}
			if ok {
				s.Table = decide.Table{Known: w.Known, Seen: w.Prefixes[prefix], At: w.At}
				v.Sites[name] = s
			}
		}
		in.VIPs[prefix] = v
	}
	return in
}

// holdsFor says for whom this balancer holds: they are not forgotten.
func (i *Injector) holdsFor(prefix netip.Prefix) map[string]int64 { return i.state[prefix].Said.Holds }
