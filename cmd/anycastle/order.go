package main

import (
	"cmp"
	"context"
	"fmt"
	"os/user"
	"strings"
	"time"

	"anycastle/internal/daemon"
	"anycastle/internal/mesh"
	"anycastle/lb"

	"github.com/spf13/cobra"
)

const (
	// drainPoll is how often a waiting drain asks how far it is.
	drainPoll = 500 * time.Millisecond
	// drainBegins is how many times it asks until the drain must have begun.
	drainBegins = 20
)

// orderFlags are those of every order about a real.
type orderFlags struct {
	runDir, why string
	deadline    time.Duration
	wait        bool
	poll        time.Duration // 0: drainPoll
}

func newOrders(e env) []*cobra.Command {
	list := []*cobra.Command{
		newOrder(e, lb.KindDrain, "Have a real, an answer or a site get nothing new, and keep what it has for as long as that takes",
			`Gives a real no new flows; those that it has stay with it. The drain ends when the real's agent
says that no flow is left, or at the deadline, and then the real is suspended: show drain tells
how far it is. Flows that are left at the deadline are broken off.

With --wait the command says how many flows are left, and ends with status 0 when no balancer of
the site sends the real anything any more, so that its server can be stopped without harm to anyone:
also after the deadline, and then it says how many flows were left. It ends with status 1 when
another order takes the place of the drain, and when it is interrupted; the order stands then.`),
		newOrder(e, lb.KindSuspend, "Take a real, an answer or a site out at once", `Takes a real out at once. Its flows are answered by another real, which resets them.`),
		newOrder(e, lb.KindActivate, "Undo a drain or a suspend of a real, an answer or a site", `Gives a real flows again, as soon as its probes pass.`),
	}
	drain, suspend, activate, suspendSite := newAnswerOrders(e)
	drainRole, activateRole := newMailOrders(e)
	list[0].AddCommand(newDrainSite(e), drain, drainRole)
	list[1].AddCommand(suspend, suspendSite)
	list[2].AddCommand(newActivateSite(e), activate, activateRole)
	return append(list, newAnnounce(e), newWithdraw(e))
}

func newOrder(e env, kind lb.Kind, short, long string) *cobra.Command {
	f := &orderFlags{}
	cmd := &cobra.Command{
		Use:     string(kind) + " FARM/REAL",
		Short:   short,
		Long:    long + "\n\nAn order survives a restart and reaches the other balancers of the site." + together(kind),
		Example: "  anycastle " + string(kind) + " smtp/mx1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			farm, real, ok := strings.Cut(args[0], "/")
			if !ok || farm == "" || real == "" {
				return usageError{fmt.Errorf("%q: want FARM/REAL, as in `show real`", args[0])}
			}
			if f.deadline < 0 {
				return usageError{fmt.Errorf("--deadline %v: want a time from now", f.deadline)}
			}
			return f.give(cmd.Context(), e, lb.Order{Farm: farm, Real: real, Kind: kind, Why: f.why})
		},
	}
	cmd.Flags().StringVar(&f.runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().StringVar(&f.why, "why", "", "the reason, to be shown with the real's state")
	if kind == lb.KindDrain {
		cmd.Flags().DurationVar(&f.deadline, "deadline", 0, "when the real is suspended at the latest, from now; the farm's transition time unless given")
		cmd.Flags().BoolVar(&f.wait, "wait", false, "end when it is safe to stop the server")
	}
	return cmd
}

// together says when an order comes into force.
func together(kind lb.Kind) string {
	if kind == lb.KindSuspend {
		return ""
	}
	return " Where there are\nsome, it comes into force on all of them together, a second after it was given."
}

func (f *orderFlags) give(ctx context.Context, e env, o lb.Order) error {
	o.By, o.Deadline = orderedBy(), deadlineIn(f.deadline)
	var kept lb.Order
	if err := daemon.Post(ctx, f.runDir, "lb", "/v1/order", o, &kept); err != nil {
		return err
	}
	sayOrdered(e, kept.Farm+"/"+kept.Real, string(kept.Kind), kept.Deadline)
	if !f.wait {
		return nil
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	return f.await(ctx, e, kept)
}

// orderedBy is who gives an order; empty if the system does not know.
func orderedBy() string {
	who, err := user.Current()
	if err != nil {
		return ""
	}
	return who.Username
}

// deadlineIn is a deadline that is given from now; zero: none is.
func deadlineIn(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// sayOrdered says what was ordered about what.
func sayOrdered(e env, about, kind string, deadline time.Time) {
	fmt.Fprintf(e.stdout, "%s: %s ordered", about, kind)
	if !deadline.IsZero() {
		fmt.Fprintf(e.stdout, ", deadline %s", deadline.Local().Format(time.DateTime))
	}
	fmt.Fprintln(e.stdout)
}

// await prints how far the drain is whenever that changes, until it is safe to stop the server.
func (f *orderFlags) await(ctx context.Context, e env, o lb.Order) error {
	tick := time.NewTicker(cmp.Or(f.poll, drainPoll))
	defer tick.Stop()
	said, begun := "", false
	for asked := 1; ; asked++ {
		var drains []lb.DrainStatus
		if err := daemon.Get(ctx, f.runDir, "lb", "/v1/drain", &drains); err != nil && ctx.Err() == nil {
			return err
		}
		if ctx.Err() != nil {
			return interrupted(o.Farm + "/" + o.Real)
		}
		d, ok := findDrain(drains, o)
		begun = begun || ok
		switch {
		case !ok && begun:
			return fmt.Errorf("another order has taken the place of the drain of %s/%s; `anycastle show real` says what it does now", o.Farm, o.Real)
		case !ok && asked == drainBegins:
			return fmt.Errorf("the balancer has not begun to drain %s/%s; `anycastle show real` says what it does", o.Farm, o.Real)
		case ok && d.Safe:
			fmt.Fprintf(e.stdout, "%s/%s: safe to stop: %s\n", d.Farm, d.Real, d.Why)
			return f.tellLost(ctx, e)
		}
		if line := drainLine(d); ok && line != said {
			fmt.Fprintln(e.stdout, line+doneIn(d))
			said = line
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// interrupted ends a wait for an order about something.
func interrupted(about string) error {
	return fmt.Errorf("interrupted; the order stands, `anycastle activate %s` undoes it", about)
}

// tellLost names the balancers that nothing is known of: they may send the real something all the same.
func (f *orderFlags) tellLost(ctx context.Context, e env) error {
	var peers []mesh.Member
	if err := daemon.Get(ctx, f.runDir, "lb", "/v1/peer-lb", &peers); err != nil {
		return err
	}
	for _, p := range peers {
		if p.State == mesh.Lost {
			fmt.Fprintf(e.stderr, "%s is lost since %s: if it still gets packets, it may send the real some\n", p.Name, p.Since.Local().Format(time.DateTime))
		}
	}
	return nil
}

// findDrain finds the drain that an order asks for, or a later one: another operator may have given it another deadline.
func findDrain(drains []lb.DrainStatus, o lb.Order) (lb.DrainStatus, bool) {
	for _, d := range drains {
		if d.Farm == o.Farm && d.Real == o.Real && !d.Ordered.Before(o.Since) {
			return d, true
		}
	}
	return lb.DrainStatus{}, false
}

func drainLine(d lb.DrainStatus) string {
	flows := "flows left unknown, no agent says"
	if d.FlowsLeft != nil {
		flows = fmt.Sprintf("%d flows left", *d.FlowsLeft)
	}
	line := fmt.Sprintf("%s/%s: %s, %s", d.Farm, d.Real, d.State, flows)
	if len(d.WaitsFor) > 0 {
		line += ", waits for " + words(d.WaitsFor)
	}
	return line
}

// doneIn says when no flow will be left, if that can be told.
func doneIn(d lb.DrainStatus) string {
	left := time.Until(d.ETA).Round(time.Second)
	if d.ETA.IsZero() || left <= 0 {
		return ""
	}
	return fmt.Sprintf(", done in about %v", left)
}

func newReload(e env) *cobra.Command {
	var runDir string
	cmd := &cobra.Command{
		Use:   "reload ROLE",
		Short: "Have a role read its node file again",
		Long: `Has a running role read its node file again and apply it whole, or keep what it has and say why. SIGHUP
does the same. So far lb and gss can, and of the mail roles the mailboxes file.`,
		Example: "  anycastle reload lb",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := daemon.Post(cmd.Context(), runDir, args[0], "/v1/reload", nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: reloaded\n", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	return cmd
}
