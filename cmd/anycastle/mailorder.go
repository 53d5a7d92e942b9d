package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"anycastle/internal/daemon"
	"anycastle/mailroles/drain"

	"github.com/spf13/cobra"
)

// mailRoleNames are the mail roles, by the names of their sockets.
var mailRoleNames = []string{"smtp", "submission", "imap", "store"}

// mailOrderFlags are those of every order to a mail role.
type mailOrderFlags struct {
	runDir, why string
	wait        bool
	poll        time.Duration // 0: drainPoll
}

const mailOrderLong = `

ROLE is smtp, submission, imap or store, on this server. The order stands until the opposite one is given or the process
ends; one that is started again serves.`

// newMailOrders gives `mail ROLE` of drain and activate.
func newMailOrders(e env) (drainRole, activate *cobra.Command) {
	drainRole = newMailOrder(e, "drain", "Have a mail role of this server let nobody in, and its sessions end",
		`Tells load balancers, by the agent listener, that the role drains; lets nobody in any more when drain_lead has passed;
ends each session where that does no harm, with 421 or BYE; and cuts off what is left at drain_deadline. SIGTERM does the
same, and ends the process then.

With --wait it says how many sessions are left, and ends with status 0 when there is none any more, and with 1 when another
order takes its place or it is interrupted; the order stands then.`)
	activate = newMailOrder(e, "activate", "Have a mail role of this server serve again",
		`Has a role that was drained serve again. While its sessions end, that comes first.`)
	return drainRole, activate
}

func newMailOrder(e env, verb, short, long string) *cobra.Command {
	f := &mailOrderFlags{}
	cmd := &cobra.Command{
		Use: "mail ROLE", Short: short, Long: long + mailOrderLong, Example: "  anycastle " + verb + " mail imap",
		Args: cobra.ExactArgs(1), ValidArgs: mailRoleNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(mailRoleNames, args[0]) {
				return usageError{fmt.Errorf("%q: want one of %s", args[0], strings.Join(mailRoleNames, ", "))}
			}
			return f.give(cmd.Context(), e, verb, args[0])
		},
	}
	cmd.Flags().StringVar(&f.runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().StringVar(&f.why, "why", "", "the reason, to be shown with the role's state")
	if verb == "drain" {
		cmd.Flags().BoolVar(&f.wait, "wait", false, "end when no session is left")
	}
	return cmd
}

func (f *mailOrderFlags) give(ctx context.Context, e env, verb, role string) error {
	var s drain.Status
	if err := daemon.Post(ctx, f.runDir, role, "/v1/"+verb, drain.Order{By: orderedBy(), Why: f.why}, &s); err != nil {
		return err
	}
	sayOrdered(e, "mail "+role, verb, s.Until)
	if !f.wait {
		return nil
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	return f.await(ctx, e, role)
}

// await prints how far the drain is whenever that changes, until the role has stopped.
func (f *mailOrderFlags) await(ctx context.Context, e env, role string) error {
	tick := time.NewTicker(cmp.Or(f.poll, drainPoll))
	defer tick.Stop()
	said, begun := "", false
	for asked := 1; ; asked++ {
		var s drain.Status
		if err := daemon.Get(ctx, f.runDir, role, "/v1/drain", &s); err != nil && ctx.Err() == nil {
			return err
		}
		begun = begun || s.State == drain.Draining
		switch line := fmt.Sprintf("mail %s: %s, %d sessions left", role, s.State, s.Sessions); {
		case ctx.Err() != nil:
			return interrupted("mail " + role)
		case s.State == drain.Stopped:
			fmt.Fprintf(e.stdout, "mail %s: stopped: %s\n", role, s.Why)
			return nil
		case begun && s.State != drain.Draining, asked == drainBegins && !begun:
			return fmt.Errorf("mail %s does not drain, it is %s: %s", role, s.State, s.Why)
		case line != said:
			fmt.Fprintln(e.stdout, line)
			said = line
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}
