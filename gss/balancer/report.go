package balancer

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"anycastle/gss/decide"
	"anycastle/internal/vipreport"
)

// Subject is an answer that balancers may tell of.
type Subject struct {
	Answer    string
	Site      string
	VIP       string       // name of the VIP that it stands for; empty: each VIP with one of its addresses
	Addresses []netip.Addr // of the answer
}

// Reports gives what the balancers said last of each subject, by answer. A report holds for no longer than its balancer says:
// with that its time is such that it ends no later for who lets it count for fresh.
func (s *Set) Reports(subjects []Subject, fresh time.Duration) map[string][]decide.Report {
	all := map[string][]decide.Report{}
	for _, r := range s.all() {
		r.mu.Lock()
		for i := range subjects {
			if said, ok := r.report(&subjects[i], fresh); ok {
				all[subjects[i].Answer] = append(all[subjects[i].Answer], said)
			}
		}
		r.mu.Unlock()
	}
	return all
}

// report gives what the balancer said of a subject. mu is held.
func (r *reader) report(s *Subject, fresh time.Duration) (decide.Report, bool) {
	if r.Site != "" && r.Site != s.Site {
		return decide.Report{}, false
	}
	var names []string
	if s.VIP != "" {
		if _, ok := r.vips[s.VIP]; ok {
			names = []string{s.VIP}
		}
	} else {
		for _, a := range s.Addresses {
			names = append(names, r.byAddr[a]...)
		}
		slices.Sort(names)
	}
	if len(names) == 0 {
		return decide.Report{}, false
	}
	var all decide.Report
	for i, name := range names {
		one := say(r.vips[name])
		one.At = r.at[name].Add(-max(0, fresh-r.expires))
		if len(names) > 1 && one.Why != "" {
			one.Why = "vip " + name + ": " + one.Why
		}
		if i > 0 {
			one = join(all, one)
		}
		all = one
	}
	all.From = r.Name
	return all, true
}

// say gives a VIP's report.
func say(v vipreport.VIP) decide.Report {
	d := decide.Report{
		Out: v.State != vipreport.Active, Draining: v.Draining || v.State == vipreport.Suspended,
		InService: v.InService, Reals: v.Reals, Route: string(v.Route),
	}
	var why []string
	if d.Out {
		why = append(why, string(v.State))
		if v.Why != "" {
			why = append(why, v.Why)
		}
	}
	if v.Route == vipreport.RouteWithdrawn {
		d.Out = true
		why = append(why, "its route is withdrawn")
		if v.RouteWhy != "" {
			why = append(why, v.RouteWhy)
		}
	}
	d.Why = strings.Join(why, ": ")
	if v.Capacity > 0 && v.Flows != vipreport.NotCounted {
		d.Used, d.Capacity = float64(v.Flows), float64(v.Capacity)
	}
	return d
}

// join gives what two VIPs of one answer say together: the worse of everything, since a client comes to all of them.
func join(a, b decide.Report) decide.Report {
	all := a
	all.Out, all.Draining = a.Out || b.Out, a.Draining || b.Draining
	if all.Why == "" {
		all.Why = b.Why
	}
	if b.At.Before(a.At) {
		all.At = b.At
	}
	if b.Capacity > 0 && (a.Capacity == 0 || b.Used*a.Capacity > a.Used*b.Capacity) {
		all.Used, all.Capacity = b.Used, b.Capacity
	}
	if b.InService*max(1, a.Reals) < a.InService*max(1, b.Reals) {
		all.InService, all.Reals = b.InService, b.Reals
	}
	if b.Route == string(vipreport.RouteWithdrawn) || a.Route == string(vipreport.RouteUnknown) {
		all.Route = b.Route
	}
	return all
}
