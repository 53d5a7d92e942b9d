package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anycastle/gss"
	steer "anycastle/gss/decide"
	"anycastle/internal/daemon"
	"anycastle/rhi/decide"
	"anycastle/rhi/inject"

	"github.com/spf13/cobra"
)

// siteOrderFlags are those of every order about a site.
type siteOrderFlags struct {
	runDir, why, vip string
	role             string
	deadline         time.Duration
	force, wait      bool
	poll             time.Duration // 0: drainPoll
}

const siteOrderLong = `

SITE is one of those in show site, that of this balancer unless given. The order reaches all balancers of the site,
survives a restart, and stands until another one is given; show site-order lists what stands.`

func newDrainSite(e env) *cobra.Command {
	f := &siteOrderFlags{}
	cmd := f.command(e, decide.KindDrain, "Take the traffic off a site: down the ladder, and withdrawn when no flow is left",
		`Announces the VIPs of a site at the rung for drains, so that new flows go elsewhere, waits until no flow is left
or the deadline passes, and then withdraws them, each as soon as a balancer of another site has promised to stay.

With --wait it says how far it is, and ends with status 0 when all is withdrawn, and with 1 when another order takes
its place or it is interrupted; the order stands then.

At a site selector it shortens the TTL of answers of the site so that all that was given of them expires together, and then
gives them to nobody, unless nothing else works; --wait ends when no resolver that honours TTLs can hold one any more,
of whatever site selector.`)
	cmd.Flags().DurationVar(&f.deadline, "deadline", 0, "when the VIPs are withdrawn at the latest, from now; rhi.gates.drain unless given")
	f.leaving(cmd)
	return cmd
}

func newWithdraw(e env) *cobra.Command {
	f := &siteOrderFlags{}
	site := f.command(e, decide.KindWithdraw, "Withdraw the VIPs of a site",
		`Withdraws the VIPs of a site, each as soon as a balancer of another site has promised to stay. Until then they
stand at the end of the ladder.`)
	f.leaving(site)
	return siteVerb("withdraw", "Withdraw VIPs", site)
}

func newActivateSite(e env) *cobra.Command {
	return (&siteOrderFlags{}).command(e, decide.KindActivate, "Undo an order about a site",
		`Has health decide again about the VIPs of a site. It also forgives their flaps, and ends a wait to fail back.

At a site selector health decides again about the answers of the site, but for those with an order of their own.`)
}

func newAnnounce(e env) *cobra.Command {
	return siteVerb("announce", "Announce VIPs whatever health says", (&siteOrderFlags{}).command(e, decide.KindAnnounce,
		"Announce the VIPs of a site plainly, whatever health says",
		`Announces the VIPs of a site at the top of the ladder, whatever health says. Clients that come to one without a real
get no answer.`))
}

// siteVerb is a verb that is about sites alone.
func siteVerb(verb, short string, site *cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: verb, Short: short, Args: cobra.NoArgs}
	cmd.AddCommand(site)
	return cmd
}

func (f *siteOrderFlags) command(e env, kind decide.Kind, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use: "site [SITE]", Short: short, Long: long + siteOrderLong, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := inject.Order{Kind: kind, Why: f.why, Force: f.force}
			if len(args) == 1 {
				o.Site = args[0]
			}
			if f.deadline < 0 {
				return usageError{fmt.Errorf("--deadline %v: want a time from now", f.deadline)}
			}
			if f.vip != "" {
				var err error
				if o.VIP, err = vipPrefix(f.vip); err != nil {
					return err
				}
			}
			return f.give(cmd.Context(), e, o)
		},
	}
	cmd.Flags().StringVar(&f.runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().StringVar(&f.why, "why", "", "the reason, to be shown with the VIPs")
	cmd.Flags().StringVar(&f.vip, "vip", "", "address of the one VIP that it is about; all unless given")
	if kind == decide.KindDrain || kind == decide.KindActivate {
		cmd.Flags().StringVar(&f.role, "role", "", "lb or gss; the one that runs here unless given, lb if both do")
	}
	return cmd
}

// leaving adds the flags of orders that end with a withdrawal.
func (f *siteOrderFlags) leaving(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.force, "force", false, "do not ask whether another balancer announces: clients may find nobody")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "end when all is withdrawn")
}

func (f *siteOrderFlags) give(ctx context.Context, e env, o inject.Order) error {
	if !slices.Contains([]string{"", "lb", "gss"}, f.role) {
		return usageError{fmt.Errorf("--role %s: want lb or gss", f.role)}
	}
	if f.role == "gss" {
		return f.giveGSS(ctx, e, o)
	}
	o.By, o.Deadline = orderedBy(), deadlineIn(f.deadline)
	var kept inject.Order
	err := daemon.Post(ctx, f.runDir, "lb", "/v1/site-order", o, &kept)
	if f.role == "" && errors.Is(err, daemon.ErrNotRunning) && (o.Kind == decide.KindDrain || o.Kind == decide.KindActivate) {
		return f.giveGSS(ctx, e, o)
	}
	if err != nil {
		return err
	}
	sayOrdered(e, siteTitle(kept), string(kept.Kind), kept.Deadline)
	if !f.wait {
		return nil
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	return f.await(ctx, e, kept)
}

// giveGSS gives the order to the site selector of this machine instead.
func (f *siteOrderFlags) giveGSS(ctx context.Context, e env, o inject.Order) error {
	switch {
	case o.Site == "":
		return usageError{errors.New("SITE is missing; a site selector is of none: `anycastle show site` lists them")}
	case f.vip != "" || f.force || f.deadline != 0:
		return usageError{errors.New("--vip, --force and --deadline are for a balancer; a site selector takes `drain answer` for one answer")}
	}
	g := answerOrderFlags{runDir: f.runDir, wait: f.wait, poll: f.poll}
	return g.give(ctx, e, gss.Order{Kind: steer.Kind(o.Kind), Site: o.Site, Why: f.why})
}

func siteTitle(o inject.Order) string {
	if o.VIP.IsValid() {
		return fmt.Sprintf("site %s, %v", o.Site, o.VIP.Addr())
	}
	return "site " + o.Site
}

// await prints how far the order is whenever that changes, until all is withdrawn.
func (f *siteOrderFlags) await(ctx context.Context, e env, o inject.Order) error {
	tick := time.NewTicker(cmp.Or(f.poll, drainPoll))
	defer tick.Stop()
	said := ""
	for {
		var orders []inject.Order
		var all []inject.AnnouncementStatus
		var sites []inject.SiteStatus
		for path, into := range map[string]any{"/v1/site-order": &orders, "/v1/announcement": &all, "/v1/site": &sites} {
			if err := daemon.Get(ctx, f.runDir, "lb", path, into); err != nil && ctx.Err() == nil {
				return err
			}
		}
		if ctx.Err() != nil && o.VIP.IsValid() {
			return interrupted(fmt.Sprintf("site %s --vip %v", o.Site, o.VIP.Addr()))
		}
		if ctx.Err() != nil {
			return interrupted("site " + o.Site)
		}
		if !stands(orders, o) {
			return fmt.Errorf("another order has taken the place of this one about %s; `anycastle show site-order` lists what stands", siteTitle(o))
		}
		left := whatIsLeft(o, all, sites)
		line := fmt.Sprintf("%s: %s", siteTitle(o), words(left))
		if len(left) == 0 {
			line = siteTitle(o) + ": withdrawn"
		}
		if line != said {
			fmt.Fprintln(e.stdout, line)
			said = line
		}
		if len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func stands(orders []inject.Order, o inject.Order) bool {
	for _, is := range orders {
		if is.Site == o.Site && is.VIP == o.VIP {
			return is.Since.Equal(o.Since)
		}
	}
	return false
}

// whatIsLeft says which VIPs of the site are not withdrawn, and where.
func whatIsLeft(o inject.Order, all []inject.AnnouncementStatus, sites []inject.SiteStatus) (left []string) {
	self := inject.SiteStatus{}
	for _, s := range sites {
		if s.Self {
			self = s
		}
	}
	for _, a := range all {
		if o.VIP.IsValid() && a.VIP != o.VIP {
			continue
		}
		if self.Site == o.Site && a.Place != decide.PlaceWithdrawn {
			text := fmt.Sprintf("%v %s at %s", a.VIP.Addr(), a.Place, self.Name)
			if a.FlowsLeft != nil {
				text += fmt.Sprintf(" (%d flows left)", *a.FlowsLeft)
			}
			if len(a.Alarms) > 0 {
				text += " (" + strings.Join(a.Alarms, "; ") + ")"
			}
			left = append(left, text)
		}
		for _, x := range a.Elsewhere {
			if x.Site == o.Site && x.Place != decide.PlaceWithdrawn {
				left = append(left, fmt.Sprintf("%v %s at %s", a.VIP.Addr(), x.Place, x.Name))
			}
		}
	}
	return left
}
