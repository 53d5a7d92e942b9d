package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"anycastle/internal/daemon"
	"anycastle/mailroles"
	"anycastle/mailroles/replica"

	"github.com/spf13/cobra"
)

// giveLUN gives an order to the store that runs here.
func giveLUN(ctx context.Context, runDir string, o mailroles.LUNOrder) (done mailroles.LUNOrdered, err error) {
	o.By = orderedBy()
	err = daemon.Post(ctx, runDir, "store", "/v1/lun-order", o, &done)
	return done, err
}

func newLUNMove(e env) *cobra.Command {
	var runDir string
	o := mailroles.LUNOrder{Order: "move"}
	cmd := &cobra.Command{
		Use:   "move LUN --to REPLICA",
		Short: "Make another replica the active store, without a failed command",
		Long: `Hands a LUN over to another of its mail replicas, which must be in step: sessions are held between two
commands, go on there, and no command fails. A command of a client that takes longer than 2 seconds is not waited for.
The LUN stays there until it is moved again or that replica fails; the preferred one does not take it back by itself.

It refuses when that replica is not heard, is unfit, has no vote yet, or lacks mail: show lun, explain lun. Give the
order where the LUN is active; another replica says where that is. The exit status is 0 when the other one is active.`,
		Example: `  anycastle lun move lun-east --to west-store1 --why "new memory"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.To == "" {
				return usageError{errors.New("say with --to which replica is to be active; show lun lists them")}
			}
			o.LUN = args[0]
			done, err := giveLUN(cmd.Context(), runDir, o)
			if err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: %s is the active store, handed over in %v\n", o.LUN, o.To, done.Took.Round(time.Millisecond))
			return nil
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().StringVar(&o.To, "to", "", "the mail replica that is to be active")
	cmd.Flags().StringVar(&o.Why, "why", "ordered", "the reason, to be shown with the LUN's moves")
	return cmd
}

func newLUNScrub(e env) *cobra.Command {
	var runDir string
	cmd := &cobra.Command{
		Use:   "scrub LUN",
		Short: "Read every body of a LUN, and compare its replicas, now",
		Long: `Has every mail replica of a LUN read all of its bodies and compare each mailbox to that of a replica at
another site: UIDs, MODSEQs, flags, keywords, sums, sizes. A rotten body is put into quarantine and fetched from
another replica. Mailboxes that differ make a replica that is not active unfit, and are named in show lun, which also tells
how far the scrub is: at each replica for its own. It reads no faster than catch_up_rate. Without an order each replica is
scrubbed once in scrub_every, which is a week. Give the order where the LUN is active.`,
		Example: "  anycastle lun scrub lun-east",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := giveLUN(cmd.Context(), runDir, mailroles.LUNOrder{LUN: args[0], Order: "scrub"}); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: the scrub has begun at all replicas that are heard; `anycastle show lun %[1]s` tells how far it is\n", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	return cmd
}

func newLUNPromote(e env) *cobra.Command {
	var runDir, output string
	var accept, assent bool
	cmd := &cobra.Command{
		Use:   "promote LUN --accept-loss",
		Short: "Go on with the replica on this server alone, when the others are gone for good",
		Long: `For the day when so many replicas of a LUN are gone for good that no active store can be elected: makes the
mail replica on this server a new group alone, from the last operation in its log. Says first what is
proven safe and what is not, and asks; --yes answers. It refuses while a quorum is there, or while a replica
that is heard has more. Until a replica of another site is back in the group the LUN goes on at one site,
exposed, whatever two_site says.

Replicas of before come back by themselves, blank, and take the state of this one: what only they have is
lost. It stays in their .quarantine, as far as it was mail. Make sure that no other replica goes on
anywhere: nobody can know that from here.

Without --accept-loss it only says what is safe and what is not.`,
		Example: `  anycastle lun promote lun-east
  anycastle lun promote lun-east --accept-loss`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			return promoteLUN(cmd.Context(), e, runDir, output, args[0], accept, assent)
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().BoolVar(&accept, "accept-loss", false, "do it, and accept that what is not safe may be lost")
	cmd.Flags().BoolVar(&assent, "yes", false, "do not ask")
	return cmd
}

func promoteLUN(ctx context.Context, e env, runDir, output, lun string, accept, assent bool) error {
	o := mailroles.LUNOrder{LUN: lun, Order: "promote"}
	said, err := giveLUN(ctx, runDir, o)
	if err != nil {
		return err
	}
	p := *said.Promotion
	if output == "json" {
		if err := writeJSON(e.stdout, p); err != nil {
			return err
		}
	} else {
		sayPromotion(e, lun, p)
	}
	switch {
	case p.Refused != "":
		return fmt.Errorf("%s is not promoted: %s", lun, p.Refused)
	case !accept:
		return nil
	case !assent:
		fmt.Fprintf(e.stderr, "Promote the replica of %s on this server, and accept that loss? Type yes: ", lun)
		line, err := bufio.NewReader(e.stdin).ReadString('\n')
		if strings.TrimSpace(line) != "yes" {
			return errors.Join(fmt.Errorf("%s is not promoted", lun), err)
		}
	}
	o.AcceptLoss, o.Last = true, p.Last
	if said, err = giveLUN(ctx, runDir, o); err != nil {
		return err
	}
	if p := said.Promotion; p != nil && p.Refused != "" {
		return fmt.Errorf("%s is not promoted: %s", lun, p.Refused)
	}
	fmt.Fprintf(e.stderr, "%s goes on here, in a group of this replica alone\n", lun)
	return nil
}

// sayPromotion prints what a promotion would cost.
func sayPromotion(e env, lun string, p replica.Promotion) {
	fmt.Fprintf(e.stdout, "If the replica of %s on this server goes on alone, from operation %d:\n", lun, p.Last)
	for _, s := range p.Safe {
		fmt.Fprintf(e.stdout, "  safe:      %s\n", s)
	}
	for _, s := range p.Unsafe {
		fmt.Fprintf(e.stdout, "  NOT SAFE:  %s\n", s)
	}
	if len(p.Unsafe) == 0 {
		fmt.Fprintln(e.stdout, "  nothing that is known of would be lost")
	}
}
