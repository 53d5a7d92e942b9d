package main

import (
	"cmp"
	"fmt"
	"strconv"

	"anycastle/internal/daemon"
	"anycastle/mailroles/queue"

	"github.com/spf13/cobra"
)

func addQueueView(cmd *cobra.Command, e env, f *showFlags) {
	addView(cmd, e, f, view[queue.Status]{
		noun: "queue", short: "Mail that waits for other sites: how far each recipient is, and why", roles: []string{"store"},
		name: func(s queue.Status) string { return s.ID },
		head: []string{"ID", "AGE", "BYTES", "SENDER", "RECIPIENT", "STATE", "ATTEMPTS", "NEXT IN", "WHY"},
		rows: queueRows,
	})
}

// queueRows gives a row for each recipient.
func queueRows(s queue.Status) [][]string {
	var rows [][]string
	for _, r := range s.Recipients {
		next := "-"
		switch {
		case r.Running:
			next = "now"
		case r.Next != nil:
			next = cmp.Or(in(*r.Next), "now")
		}
		state, why := string(r.State), r.Last
		switch {
		case s.Deleted && r.State == queue.Waiting:
			state, why = "deleted", "goes when its attempt has ended"
		case s.Held != "" && r.State == queue.Waiting:
			state, why = "held", s.Held
		case r.Host != "":
			why = r.Host + ": " + why
		}
		rows = append(rows, []string{
			s.ID, ago(s.Arrived), strconv.FormatInt(s.Size, 10), cmp.Or(s.From, "<>"), r.Address, state, strconv.Itoa(r.Attempts), next,
			cmp.Or(why, "-"),
		})
	}
	return rows
}

// newMailQueue makes `mail queue`, whose commands give orders to the queue of the store that runs here.
func newMailQueue(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "queue", Short: "Give orders about mail that waits for other sites",
		Long: `Gives orders to the queue of the store that runs on this node. show queue lists what is in it. What an
order changes is on disk when the command ends.`,
		Args: cobra.NoArgs,
	}
	for _, o := range []struct{ order, short, long string }{
		{
			"flush", "Try an entry, or all, now",
			`Tries an entry now instead of at its next time, also when its destination could not be reached a
moment ago. One that is held is not tried.`,
		},
		{
			"hold", "Have nobody try an entry, or all",
			`Has an entry wait until it is released, over restarts too. An attempt that is under way goes on. The
life of the message goes on as well.`,
		},
		{
			"release", "Undo hold, and try at once",
			`Has an entry be tried again, at once: one that was held by an order, or because a filter wanted it
kept apart.`,
		},
		{
			"delete", "Remove an entry, or all",
			`Removes an entry. The sender is not told. An attempt that is under way may still deliver it.`,
		},
	} {
		cmd.AddCommand(newQueueOrder(e, o.order, o.short, o.long))
	}
	return cmd
}

func newQueueOrder(e env, order, short, long string) *cobra.Command {
	var runDir string
	cmd := &cobra.Command{
		Use: order + " ID|all", Short: short, Long: long, Args: cobra.ExactArgs(1),
		Example: "  anycastle mail queue " + order + " all",
		RunE: func(cmd *cobra.Command, args []string) error {
			o := queue.Order{Order: order, ID: args[0], By: orderedBy()}
			changed := 0
			for { // an order about many entries is carried out in parts
				var done queue.Ordered
				if err := daemon.Post(cmd.Context(), runDir, "store", "/v1/queue-order", o, &done); err != nil {
					return err
				}
				if changed += done.Entries; done.Left == 0 {
					break
				}
			}
			fmt.Fprintf(e.stdout, "%s: %s, %d changed\n", args[0], order, changed)
			return nil
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	return cmd
}
