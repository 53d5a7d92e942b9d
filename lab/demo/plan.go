package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anycastle/lab/runner"
)

// fault is one thing that breaks, and how it is mended.
type fault struct {
	name     string
	watch    time.Duration // at least this long before the next
	apply    func(context.Context) error
	heal     func(context.Context) error
	tookOver func(context.Context) (string, error) // nil: the banners that the client saw tell it
}

const vip = "203.0.113.25/32"

func (d *demo) plan() []fault {
	return []fault{
		{
			name: "real killed (east-mx1)", watch: 4 * time.Second,
			apply: func(ctx context.Context) error { return d.lab.Kill(ctx, "east-mx1") },
			heal:  func(ctx context.Context) error { return d.lab.Start(ctx, "east-mx1") },
		},
		{
			name: "LB killed (east-lb1)", watch: 4 * time.Second,
			apply:    func(ctx context.Context) error { return d.lab.Kill(ctx, "east-lb1") },
			heal:     func(ctx context.Context) error { return d.lab.Start(ctx, "east-lb1") },
			tookOver: func(ctx context.Context) (string, error) { return d.via(ctx, "east-core") },
		},
		{
			name: "all reals of a VIP killed at a site (east-mx1, east-mx2)", watch: 6 * time.Second,
			apply: func(ctx context.Context) error { return d.both(ctx, d.lab.Kill) },
			heal:  func(ctx context.Context) error { return d.both(ctx, d.lab.Start) },
		},
		{
			name: "site east cut off silently", watch: 10 * time.Second,
			apply: func(context.Context) error {
				_, err := d.lab.Cut(runner.Around(d.lab.Topology.Group("east")...))
				return err
			},
		},
		{
			name: "site east returns", watch: 10 * time.Second,
			apply: func(context.Context) error {
				_, err := d.lab.Heal(runner.All())
				return err
			},
		},
	}
}

// both does something to the two SMTP front ends of site east.
func (d *demo) both(ctx context.Context, do func(context.Context, string) error) error {
	return errors.Join(do(ctx, "east-mx1"), do(ctx, "east-mx2"))
}

// settled is what the routers hold when all is well: both balancers at each site, and east before west at the ISPs.
var settled = map[string][]string{
	"east-core": {"east-lb1", "east-lb2"},
	"west-core": {"west-lb1", "west-lb2"},
	"ispa":      {"east-core"},
	"ispb":      {"east-core"},
}

// balancers are the nodes that must have all their reals in service before anything else may break: a real that
// comes back late would take sessions with it, and they would count for the next fault.
var balancers = []string{"east-lb1", "east-lb2", "west-lb1", "west-lb2"}

// settleTime bounds the wait for sessions, routes and reals after a start.
const settleTime = 45 * time.Second

// settle waits until routers and balancers hold what they should and the client finds everything answering.
func (d *demo) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for node, want := range settled {
		err := until(ctx, node+" has the VIP by way of", strings.Join(want, ", "), func() (string, error) { return d.via(ctx, node) })
		if err != nil {
			return err
		}
	}
	for _, node := range balancers {
		if err := until(ctx, node+" has reals out of service:", "none", func() (string, error) { return d.out(ctx, node) }); err != nil {
			return err
		}
	}
	d.say("routes: the VIP from both balancers at each site, every real in service; the ISPs prefer east")
	if _, err := d.output(ctx, "client", nil, "lab", "client", "ready"); err != nil {
		return err
	}
	d.say("answering: the shared VIPs, each site's own, and the name from both selectors")
	return nil
}

// until asks until it hears what it wants. A question that fails is asked again: the node may just be starting.
func until(ctx context.Context, what, want string, ask func() (string, error)) error {
	for {
		got, err := ask()
		if err == nil && got == want {
			return nil
		}
		if ended := pause(ctx, 200*time.Millisecond); ended != nil {
			return errors.Join(fmt.Errorf("%s %q, want %q: %w", what, got, want, ended), err)
		}
	}
}

// What the demo reads of `anycastle show route -o json`, `show peer -o json` and `show real -o json`.
type (
	real struct {
		Name  string `json:"name"`
		State string `json:"state"`
	}
	route struct {
		Prefix   netip.Prefix `json:"prefix"`
		NextHops []netip.Addr `json:"next_hops"`
		InKernel bool         `json:"in_kernel"`
	}
	peer struct {
		Name    string     `json:"name"`
		Address netip.Addr `json:"address"`
	}
)

// via names the peers by which a router reaches the VIP, as its kernel has it.
func (d *demo) via(ctx context.Context, node string) (string, error) {
	var routes []route
	var peers []peer
	if err := errors.Join(d.ask(ctx, node, "route", &routes), d.ask(ctx, node, "peer", &peers)); err != nil {
		return "", err
	}
	names := map[netip.Addr]string{}
	for _, p := range peers {
		names[p.Address] = p.Name
	}
	var by []string
	for _, r := range routes {
		if r.Prefix.String() == vip && r.InKernel {
			for _, hop := range r.NextHops {
				by = append(by, names[hop])
			}
		}
	}
	slices.Sort(by)
	return strings.Join(by, ", "), nil
}

// out names the reals that a balancer has out of service.
func (d *demo) out(ctx context.Context, node string) (string, error) {
	var reals []real
	if err := d.ask(ctx, node, "real", &reals); err != nil {
		return "", err
	}
	if len(reals) == 0 {
		return "", fmt.Errorf("%s has no reals", node)
	}
	var out []string
	for _, r := range reals {
		if r.State != "active" && r.State != "joining" {
			out = append(out, r.Name)
		}
	}
	if len(out) == 0 {
		return "none", nil
	}
	return strings.Join(out, ", "), nil
}

// ask reads one noun of `show` in a node.
func (d *demo) ask(ctx context.Context, node, noun string, v any) error {
	text, err := d.output(ctx, node, nil, "show", noun, "-o", "json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s of %s: %w", noun, node, err)
	}
	return nil
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
