package lb

import (
	"fmt"
	"maps"
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
	farms := map[string]Health{}
	for i := range in.cfg.Farms {
		farms[in.cfg.Farms[i].Name] = in.farmHealth(&in.cfg.Farms[i])
	}
	worst, counted := map[netip.Addr]Health{}, map[netip.Addr][]string{}
	for i := range in.cfg.VIPs {
		v := &in.cfg.VIPs[i]
		h := farms[v.Farm]
		h.Prefix, h.VIP = netip.PrefixFrom(v.Address, v.Address.BitLen()), v.Name
		h.Min, h.Full = Minimum{v.MinReals, v.MinShare}, Minimum{v.FullReals, v.FullShare}
		old, other := worst[v.Address]
		known, flows := h.Known, h.Flows
		if other {
			known, flows = known && old.Known, old.Flows
			if !slices.Contains(counted[v.Address], v.Farm) { // an agent counts for all VIPs of the farm at once
				flows = sum(flows, h.Flows)
			}
			if !h.worse(old) {
				h = old
			}
		}
		h.Known, h.Flows = known, flows
		worst[v.Address], counted[v.Address] = h, append(counted[v.Address], v.Farm)
	}
	return slices.SortedFunc(maps.Values(worst), func(a, b Health) int { return a.Prefix.Compare(b.Prefix) })
}

func sum(a, b *int) *int {
	if a == nil || b == nil {
		return nil
	}
	n := *a + *b
	return &n
}

// farmHealth is what a farm's VIPs have in common.
func (in *inputs) farmHealth(f *Farm) Health {
	h := Health{Known: true, Reals: len(f.Reals), InService: in.inService(f.Name)}
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
