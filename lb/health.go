package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Health is what is known of an address that has VIPs: of the one of them that stands worst, as routes know no ports.
type Health struct {
	Prefix    netip.Prefix // /32 or /128
	VIP       string       // name of the VIP that it is about
	Known     bool         // all reals have been probed
	InService int          // reals that take new flows
	Reals     int
	Share     int // percent of the farm's weight that is in service
	Min, Full Minimum
	Flows     *int      // established, at all reals of the address; nil: agents do not say
	At        time.Time // when what it follows from came to be known
}

// Minimum is how much of a farm must be in service.
type Minimum struct {
	Reals int
	Share int // percent of the farm's weight
}

func (m Minimum) met(h Health) bool { return h.InService >= m.Reals && h.Share >= m.Share }

// Fit says whether enough is in service.
func (h Health) Fit() bool { return h.InService > 0 && h.Min.met(h) }

// why says what is missing; empty: nothing.
func (h Health) why() string {
	switch {
	case h.Fit():
		return ""
	case h.InService >= max(1, h.Min.Reals):
		return fmt.Sprintf("vip %s has %d%% of the %d%% of its farm's weight that it needs", h.VIP, h.Share, h.Min.Share)
	}
	return fmt.Sprintf("vip %s has %d of %d reals that it needs", h.VIP, h.InService, h.Min.Reals)
}

// level ranks the health of VIPs of one address: less is worse.
func (h Health) level() int {
	switch {
	case !h.Fit():
		return 0
	case !h.Full.met(h):
		return 1
	}
	return 2
}

// worse says whether h leaves an address worse off than o.
func (h Health) worse(o Health) bool {
	if h.level() != o.level() {
		return h.level() < o.level()
	}
	return h.InService < o.InService || h.InService == o.InService && h.Share < o.Share
}

func (h Health) equal(o Health) bool {
	f, g := h.Flows, o.Flows
	h.Flows, o.Flows, h.At, o.At = nil, nil, time.Time{}, time.Time{}
	return h == o && (f == nil) == (g == nil) && (f == nil || *f == *g)
}

// health gives what is known of each address of the VIPs, sorted.
func (in *inputs) health() []Health {
	worst := map[netip.Addr]Health{}
	for i := range in.cfg.VIPs {
		v := &in.cfg.VIPs[i]
		h := in.healthOf(v)
		old, other := worst[v.Address]
		if !other {
			worst[v.Address] = h
			continue
		}
		known, flows := h.Known && old.Known, sum(h.Flows, old.Flows)
		if !h.worse(old) {
			h = old
		}
		h.Known, h.Flows = known, flows
		worst[v.Address] = h
	}
	list := make([]Health, 0, len(worst))
	for _, h := range worst {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b Health) int { return a.Prefix.Compare(b.Prefix) })
	return list
}

func sum(a, b *int) *int {
	if a == nil || b == nil {
		return nil
	}
	n := *a + *b
	return &n
}

func (in *inputs) healthOf(v *VIP) Health {
	f := in.cfg.farm(v.Farm)
	h := Health{
		Prefix: netip.PrefixFrom(v.Address, v.Address.BitLen()), VIP: v.Name, Known: true, Reals: len(f.Reals),
		InService: in.inService(v.Farm), Min: Minimum{v.MinReals, v.MinShare}, Full: Minimum{v.FullReals, v.FullShare},
	}
	all, serving, flows, counted := 0, 0, 0, true
	for i := range f.Reals {
		r := &f.Reals[i]
		all += r.Weight
		if in.states[f.Name][r.Address].State.inService() {
			serving += r.Weight
		}
		h.Known = h.Known && in.situation(f, r).known
		count := in.agents[realID{f.Name, r.Name}].flows
		flows, counted = flows+count.left, counted && count.known
	}
	h.Share = serving * 100 / max(all, 1)
	if counted {
		h.Flows = &flows
	}
	return h
}

// announce gives the prefixes that are fit to be announced, sorted, and for every other address of a VIP the reason why
// not.
func (in *inputs) announce() ([]netip.Prefix, map[netip.Addr]string) { return fit(in.health()) }

func fit(health []Health) ([]netip.Prefix, map[netip.Addr]string) {
	var prefixes []netip.Prefix
	withheld := map[netip.Addr]string{}
	for _, h := range health {
		if h.Fit() {
			prefixes = append(prefixes, h.Prefix)
		} else {
			withheld[h.Prefix.Addr()] = h.why()
		}
	}
	return prefixes, withheld
}
