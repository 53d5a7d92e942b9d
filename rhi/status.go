package rhi

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Status is a snapshot of a Role, as JSON.
type Status struct {
	Peers  []Peer  `json:"peers"`
	Routes []Route `json:"routes"`
}

// Peer is one line of `show peer`.
type Peer struct {
	Name      string     `json:"name"`
	Address   netip.Addr `json:"address"`
	ASN       uint32     `json:"asn"`
	Group     string     `json:"group"`
	Watches   []string   `json:"watches,omitempty"`    // the sites whose routes are looked at there; such a peer is sent nothing
	State     string     `json:"state"`                // idle, connect, active, opensent, openconfirm or established (RFC 4271 8.2.2)
	Since     time.Time  `json:"since"`                // when the session last came up or went down, or the start of the role
	LastError string     `json:"last_error,omitempty"` // why the session last went down, or has not come up yet
	Received  int        `json:"received"`             // prefixes that stand received from the peer
	Sent      int        `json:"sent"`                 // prefixes that stand announced to the peer
}

// peerCount is what stands received from and sent to a peer now.
type peerCount struct{ received, sent int }

// Source says where a route comes from.
type Source string

// The sources of a route.
const (
	Own     Source = "own"     // configured under `announce`
	Health  Source = "health"  // handed over through SetAnnouncements
	Learned Source = "learned" // from a peer
)

// Route is one line of `show route`.
type Route struct {
	Prefix   netip.Prefix      `json:"prefix"`
	NextHops []netip.Addr      `json:"next_hops"` // of the best paths; empty for own and health routes
	Source   Source            `json:"source"`
	InKernel bool              `json:"in_kernel"`               // a learned route that the kernel forwards by, with these next hops
	NotSet   string            `json:"not_in_kernel,omitempty"` // why a learned route is not InKernel
	PassedOn bool              `json:"passed_on"`               // peers may hear of it from us
	Why      string            `json:"why"`                     // the reason for PassedOn
	Sent     map[string]string `json:"sent,omitempty"`          // of the node's own: how each group of peers is sent it
}

// Status gives a snapshot for `show peer` and `show route`.
func (r *Role) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := Status{Peers: []Peer{}, Routes: []Route{}}
	counts := map[netip.Addr]peerCount{}
	var paths []path
	if r.speaker != nil {
		var err, pathsErr error
		counts, err = r.speaker.peers(context.Background())
		paths, pathsErr = r.speaker.paths()
		if err := errors.Join(err, pathsErr); err != nil {
			r.log.Warn("read status", "err", err)
		}
	}
	for _, n := range r.cfg.Neighbors {
		st.Peers = append(st.Peers, r.peers[n.Address].shown)
	}
	st.Peers = append(st.Peers, r.dynamicPeers()...)
	for i := range st.Peers {
		c := counts[st.Peers[i].Address]
		st.Peers[i].Received, st.Peers[i].Sent = c.received, c.sent
	}
	for _, p := range paths {
		st.Routes = append(st.Routes, r.route(p))
	}
	for p, rungs := range r.health { // those that are in no routing table
		rt := Route{Prefix: p, NextHops: []netip.Addr{}, Source: Health}
		switch why := r.cfg.refuse(p); {
		case why != "":
			rt.Why = why
		case slices.Equal(rungs, r.cfg.lastRungs()) && !slices.Contains(r.cfg.Announce, p):
			rt.Why, rt.Sent = "withdrawn from all groups of peers", r.cfg.sent(rungs)
		default:
			continue
		}
		st.Routes = append(st.Routes, rt)
	}
	slices.SortFunc(st.Routes, func(a, b Route) int { return comparePrefixes(a.Prefix, b.Prefix) })
	return st
}

// dynamicPeers lists those that are connected or kept down. The caller holds mu.
func (r *Role) dynamicPeers() []Peer {
	var list []Peer
	for _, p := range r.peers {
		if p.dynamic {
			list = append(list, p.shown)
		}
	}
	slices.SortFunc(list, func(a, b Peer) int { return a.Address.Compare(b.Address) })
	return list
}

// route explains one prefix of the routing table.
func (r *Role) route(p path) Route {
	rt := Route{Prefix: p.prefix, NextHops: []netip.Addr{}, Source: r.source(p.prefix)}
	if p.own {
		rt.PassedOn, rt.Why = true, "the node's own route"
		rt.Sent = r.cfg.sent(rungsOf(p.markers, len(r.cfg.groupNames())))
		return rt
	}
	rt.NextHops = append(rt.NextHops, p.nextHops...)
	slices.SortFunc(rt.NextHops, netip.Addr.Compare)
	rt.NextHops = slices.Compact(rt.NextHops)
	rt.InKernel = len(rt.NextHops) > 0 && slices.Equal(r.kernel[p.prefix], rt.NextHops)
	if r.cfg.Router == nil {
		rt.Why = "the node is no router: it has no `router` section"
		rt.NotSet = rt.Why
		return rt
	}
	if !rt.InKernel {
		rt.NotSet = r.notSet(p)
	}
	rt.Why, rt.PassedOn = r.cfg.passed(p.prefix)
	if why := r.notYet(); why != "" && rt.PassedOn {
		rt.Why, rt.PassedOn = why, false
	}
	return rt
}

// notSet says why a router does not have a learned route in the kernel, by all its next hops.
func (r *Role) notSet(p path) string {
	why, err := p.unfit(r.own()), r.unset[p.prefix]
	switch {
	case why != "":
		return why
	case err != nil:
		return err.Error()
	}
	return "not yet"
}
