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

// settled is what the routers hold when all is well: both balancers at each site, and east before west at the ISPs.
var settled = map[string][]string{
	"east-core": {"east-lb1", "east-lb2"},
	"west-core": {"west-lb1", "west-lb2"},
	"ispa":      {"east-core"},
	"ispb":      {"east-core"},
}

// settleTime bounds the wait for sessions and routes after a start.
const settleTime = 45 * time.Second

// settle waits until the routers hold what they should and the client finds everything answering.
func (d *demo) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for node, want := range settled {
		var last string
		for {
			got, err := d.via(ctx, node)
			if err == nil && got == strings.Join(want, ", ") {
				break
			}
			last = got
			if serr := pause(ctx, 200*time.Millisecond); serr != nil {
				return errors.Join(fmt.Errorf("%s has the VIP by way of %q, want %q: %w", node, last, want, serr), err)
			}
		}
	}
	d.say("routes: the VIP from both balancers at each site; the ISPs prefer east")
	if _, err := d.output(ctx, "client", nil, "lab", "client", "ready"); err != nil {
		return err
	}
	d.say("answering: the shared VIPs, each site's own, and the name from both selectors")
	return nil
}

// What the demo reads of `anycastle show route -o json` and `show peer -o json`.
type (
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
