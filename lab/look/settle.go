package look

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// lagAllowed is how many operations a replica may be behind while the client works.
const lagAllowed = 100

// lunState is what a store says of a LUN.
type lunState struct {
	Name    string `json:"name"`
	Replica *struct {
		Self    string `json:"self"`
		State   string `json:"state"`
		Why     string `json:"why"`
		Active  string `json:"active"`
		Serving bool   `json:"serving"`
		TwoSite struct {
			State string `json:"state"`
		} `json:"two_site"`
		Members []struct {
			Name    string `json:"name"`
			In      bool   `json:"in"`
			Voter   bool   `json:"voter"`
			Fit     bool   `json:"fit"`
			Why     string `json:"why"`
			Lag     uint64 `json:"lag"`
			Missing int    `json:"missing"`
		} `json:"replicas"`
	} `json:"replica"`
}

func (l *Lab) luns(ctx context.Context, node string) (list []lunState, err error) {
	return list, l.Ask(ctx, node, store, "lun", &list)
}

// nodes names those that can be asked, in the topology's order.
func (l *Lab) nodes() (names []string) {
	for _, n := range l.Topology.Nodes {
		if len(l.roles[n.Name]) > 0 {
			names = append(names, n.Name)
		}
	}
	return names
}

// unsettled says what is not as it should be of the nodes, by node: BGP sessions that are not established, reals out of
// service, VIPs that are not announced in full, answers that do not serve, LUNs that are not at home or whose replicas are
// not well, and, once Settle has seen them, routes that are not as at first. A node that is well is not there.
func (l *Lab) unsettled(ctx context.Context, nodes []string) map[string][]string {
	var mu sync.Mutex
	all := map[string][]string{}
	var g errgroup.Group
	g.SetLimit(8) // what is looked at has work to do
	for _, node := range nodes {
		g.Go(func() error {
			var wrong []string
			for _, role := range l.roles[node] {
				wrong = append(wrong, l.wrong(ctx, node, role)...)
			}
			if len(wrong) > 0 {
				mu.Lock()
				defer mu.Unlock()
				all[node] = wrong
			}
			return nil
		})
	}
	g.Wait() // no function of it fails
	return all
}

// wrong says what is not as it should be of one role.
func (l *Lab) wrong(ctx context.Context, node, role string) []string {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, node+": "+fmt.Sprintf(format, args...)) }
	var err error
	switch role {
	case lb:
		err = errors.Join(l.wrongReals(ctx, node, say), l.wrongVIPs(ctx, node, say), l.wrongPeers(ctx, node, role, say))
	case rhi:
		err = errors.Join(l.wrongPeers(ctx, node, role, say), l.wrongRoutes(ctx, node, say))
	case gss:
		err = errors.Join(l.wrongAnswers(ctx, node, say), l.wrongPeers(ctx, node, role, say))
	case store:
		err = l.wrongLUNs(ctx, node, say)
	}
	if err != nil {
		return []string{strings.ReplaceAll(err.Error(), "\n", "; ")} // the rest follows from that
	}
	return wrong
}

type sayer func(format string, args ...any)

func (l *Lab) wrongReals(ctx context.Context, node string, say sayer) error {
	var reals []Real
	err := l.Ask(ctx, node, lb, "real", &reals)
	for _, r := range reals {
		if r.State != "active" && r.State != "joining" {
			say("real %s/%s is %s (%s)", r.Farm, r.Name, r.State, r.Why)
		}
	}
	return err
}

func (l *Lab) wrongVIPs(ctx context.Context, node string, say sayer) error {
	var list []struct {
		VIP   string `json:"vip"`
		Place string `json:"place"`
		Why   string `json:"why"`
	}
	err := l.Ask(ctx, node, lb, "announcement", &list)
	for _, a := range list {
		if a.Place != "full" {
			say("VIP %s is announced as %s (%s)", a.VIP, a.Place, a.Why)
		}
	}
	return err
}

func (l *Lab) wrongPeers(ctx context.Context, node, role string, say sayer) error {
	if !l.speaks[node] {
		return nil
	}
	var list []struct {
		Name  string `json:"name"`
		State string `json:"state"`
	}
	err := l.Ask(ctx, node, role, "peer", &list)
	for _, p := range list {
		if p.State != "established" {
			say("BGP session to %s is in state %s", p.Name, p.State)
		}
	}
	return err
}

func (l *Lab) wrongAnswers(ctx context.Context, node string, say sayer) error {
	var answers []struct {
		Name  string `json:"name"`
		Place string `json:"place"`
		Why   string `json:"why"`
	}
	var vantages []struct {
		Name   string `json:"name"`
		Counts bool   `json:"counts"`
	}
	err := errors.Join(l.Ask(ctx, node, gss, "answer", &answers), l.Ask(ctx, node, gss, "vantage", &vantages))
	for _, a := range answers {
		if a.Place != "serving" {
			say("answer %s is %s (%s)", a.Name, a.Place, a.Why)
		}
	}
	for _, v := range vantages {
		if !v.Counts {
			say("hears nothing of the site selector %s", v.Name)
		}
	}
	return err
}

func (l *Lab) wrongLUNs(ctx context.Context, node string, say sayer) error {
	luns, err := l.luns(ctx, node)
	for _, lun := range luns {
		r := lun.Replica
		if r == nil || len(r.Members) == 0 {
			continue
		}
		home := r.Members[0].Name
		if r.Active != home {
			say("%s is active at %s, not at home at %s", lun.Name, word(strings.Fields(r.Active)), home)
		}
		if !r.Serving {
			continue // who is active knows how the others are
		}
		if r.TwoSite.State != "both sites" {
			say("%s: two sites: %s", lun.Name, r.TwoSite.State)
		}
		for _, m := range r.Members {
			if !m.In || !m.Voter || !m.Fit || m.Missing > 0 || m.Lag > lagAllowed {
				say("%s: replica %s is not well: votes %t, lag %d, %d bodies missing, %s", lun.Name, m.Name, m.Voter, m.Lag, m.Missing, m.Why)
			}
		}
	}
	return err
}

// wrongRoutes compares a router's routes to those that it had when all was well.
func (l *Lab) wrongRoutes(ctx context.Context, node string, say sayer) error {
	if l.normal == nil || !l.routes[node] {
		return nil
	}
	routes, err := l.routesOf(ctx, node)
	if err != nil {
		return err
	}
	have := map[string][]string{}
	for _, r := range routes {
		have[r.prefix.String()] = r.hops
	}
	for _, r := range l.normal[node] {
		if got := have[r.prefix.String()]; !slices.Equal(got, r.hops) {
			say("route to %s by %s, not by %s", r.prefix, word(got), word(r.hops))
		}
	}
	return nil
}

// calm is how long the routes must stand still before they count as normal.
const calm = 2 * time.Second

// Settle waits until nothing is unsettled. The first time it then keeps the routes of all routers once they have stood
// still, and later wants those again. say hears now and then what is waited for. The error of a wait that is too long
// lists what is still wrong.
func (l *Lab) Settle(ctx context.Context, within time.Duration, say func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	spoken := time.Now()
	all := l.nodes()
	for left := all; ; {
		wrong := l.unsettled(ctx, left)
		if len(wrong) == 0 && len(left) < len(all) {
			left = all // those that were well before may not be any more
			continue
		}
		if len(wrong) == 0 && l.normal != nil {
			return nil
		}
		if len(wrong) == 0 {
			return l.keepNormal(ctx)
		}
		left = slices.Sorted(maps.Keys(wrong))
		if ctx.Err() == nil && time.Since(spoken) > 5*time.Second {
			spoken = time.Now()
			say(fmt.Sprintf("waiting for: %s", brief(wrong)))
		}
		if err := pause(ctx, lookEvery); err != nil {
			return fmt.Errorf("not settled within %v: %s: %w", within, brief(wrong), err)
		}
	}
}

// lookEvery is the time from one look to the next.
const lookEvery = 300 * time.Millisecond

// keepNormal waits until no route has changed for a while, and keeps them all.
func (l *Lab) keepNormal(ctx context.Context) error {
	var last map[string][]normalHops
	for since := time.Now(); ; {
		now := map[string][]normalHops{}
		for _, node := range l.with(rhi) {
			routes, err := l.routesOf(ctx, node)
			if err != nil {
				return err
			}
			now[node] = routes
		}
		if !same(last, now) {
			last, since = now, time.Now()
		}
		if time.Since(since) > calm {
			l.normal = now
			return nil
		}
		if err := pause(ctx, lookEvery); err != nil {
			return fmt.Errorf("routes do not come to rest: %w", err)
		}
	}
}

func same(a, b map[string][]normalHops) bool {
	return fmt.Sprint(a) == fmt.Sprint(b)
}

// brief names the first few things that are wrong.
func brief(wrong map[string][]string) string {
	var list []string
	for _, node := range slices.Sorted(maps.Keys(wrong)) {
		list = append(list, wrong[node]...)
	}
	const most = 4
	if len(list) <= most {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:most], "; "), len(list)-most)
}

// pause waits, or gives the reason why ctx ended first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
