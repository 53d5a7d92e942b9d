package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"time"

	"anycastle/internal/daemon"
	"anycastle/lb"

	"github.com/spf13/cobra"
)

// drainPoll is how often a waiting drain asks how far it is.
const drainPoll = 500 * time.Millisecond

// orderFlags are those of every order about a real.
type orderFlags struct {
	runDir, why string
	deadline    time.Duration
	wait        bool
}

func newOrders(e env) []*cobra.Command {
	return []*cobra.Command{
		newOrder(e, lb.KindDrain, "Have a real get no new flows, and keep those that it has",
			`Gives a real no new flows; those that it has stay with it. The drain ends when the real's agent
says that no flow is left, or at the deadline, and then the real is suspended: show drain tells
how far it is. With --wait the command ends with status 0 when no balancer of the site sends the
real anything any more, so that its server can be stopped.`),
		newOrder(e, lb.KindSuspend, "Take a real out at once", `Takes a real out at once. Its flows are answered by another real, which resets them.`),
		newOrder(e, lb.KindActivate, "Undo a drain or a suspend", `Gives a real flows again, as soon as its probes pass.`),
	}
}

func newOrder(e env, kind lb.Kind, short, long string) *cobra.Command {
	f := &orderFlags{}
	cmd := &cobra.Command{
		Use:     string(kind) + " FARM/REAL",
		Short:   short,
		Long:    long + "\n\nAn order survives a restart and reaches the other balancers of the site.",
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

func (f *orderFlags) give(ctx context.Context, e env, o lb.Order) error {
	if who, err := user.Current(); err == nil {
		o.By = who.Username
	}
	if f.deadline > 0 {
		o.Deadline = time.Now().Add(f.deadline)
	}
	var kept lb.Order
	if err := daemon.Post(ctx, f.runDir, "lb", "/v1/order", o, &kept); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s/%s: %s ordered", kept.Farm, kept.Real, kept.Kind)
	if !kept.Deadline.IsZero() {
		fmt.Fprintf(e.stdout, ", deadline %s", kept.Deadline.Local().Format(time.DateTime))
	}
	fmt.Fprintln(e.stdout)
	if !f.wait {
		return nil
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	return f.await(ctx, e, kept)
}

// await prints how far the drain is whenever that changes, until it is safe to stop the server.
func (f *orderFlags) await(ctx context.Context, e env, o lb.Order) error {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	said := ""
	for {
		var drains []lb.DrainStatus
		if err := daemon.Get(ctx, f.runDir, "lb", "/v1/drain", &drains); err != nil {
			return err
		}
		d, ok := findDrain(drains, o)
		switch {
		case !ok:
			return errors.New("the drain was taken back")
		case d.Safe:
			fmt.Fprintf(e.stdout, "%s/%s: safe to stop: %s\n", d.Farm, d.Real, d.Why)
			return nil
		}
		if line := drainLine(d); line != said {
			fmt.Fprintln(e.stdout, line)
			said = line
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s/%s is still draining: %w", o.Farm, o.Real, ctx.Err())
		case <-tick.C:
		}
	}
}

func findDrain(drains []lb.DrainStatus, o lb.Order) (lb.DrainStatus, bool) {
	for _, d := range drains {
		if d.Farm == o.Farm && d.Real == o.Real {
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

func newReload(e env) *cobra.Command {
	var runDir string
	cmd := &cobra.Command{
		Use:   "reload ROLE",
		Short: "Have a role read its node file again",
		Long: `Has a running role read its node file again and apply it whole, or keep what it has and say why. SIGHUP
does the same. So far lb can.`,
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
