package main

import (
	"fmt"
	"io"
	"strconv"

	"anycastle/internal/daemon"
	"anycastle/lb"

	"github.com/spf13/cobra"
)

const flowLong = `Lists the live flows as the balancer can know them. Answers go from a real to the client directly, and in the
steady state a balancer keeps no table of flows, so it asks the agents of the reals (real.agent) which
connections they have, side by side and for at most 4 seconds. While slots are in transition it also knows
the flows that began in these, since it tracks them.

ELSEWHERE says that new flows of the same slot go to another real: the flow lives on the slot's secondary,
or on a real that the slot has left. What could not be asked, and why, is said below the list.`

func addFlowView(parent *cobra.Command, e env, f *showFlags) {
	var q lb.FlowQuery
	var client string
	cmd := &cobra.Command{
		Use:   "flow",
		Short: "Live flows: the real that has each, and whether its slot has another by now",
		Long:  flowLong,
		Example: `  anycastle show flow --vip smtp --client 192.0.2.0/24
  anycastle show flow --real mail/mx1 --limit 20 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(f.output); err != nil {
				return err
			}
			var err error
			if client != "" {
				if q.Client, err = lb.ParsePrefix(client); err != nil {
					return usageError{fmt.Errorf("--client: %w", err)}
				}
			}
			if q.Limit < 1 || q.Limit > lb.MaxFlows {
				return usageError{fmt.Errorf("--limit %d: want 1 to %d", q.Limit, lb.MaxFlows)}
			}
			var list lb.FlowList
			if err := daemon.Get(cmd.Context(), f.runDir, "lb", "/v1/flow?"+q.Values().Encode(), &list); err != nil {
				return err
			}
			if f.output == "json" {
				return writeJSON(e.stdout, list)
			}
			return writeFlows(e.stdout, list)
		},
	}
	cmd.Flags().StringVar(&q.VIP, "vip", "", "flows of the VIP of this name alone")
	cmd.Flags().StringVar(&q.Real, "real", "", "flows of FARM/NAME alone")
	cmd.Flags().StringVar(&client, "client", "", "flows of clients in a network, such as 192.0.2.0/24, or of one address")
	cmd.Flags().IntVar(&q.Limit, "limit", lb.DefaultFlows, "list no more than so many")
	parent.AddCommand(cmd)
}

func writeFlows(out io.Writer, list lb.FlowList) error {
	head := []string{"CLIENT", "VIP", "NAME", "PROTOCOL", "REAL", "KNOWN BY", "SLOT", "PRIMARY", "SECONDARY", "ELSEWHERE"}
	row := one(func(f lb.FlowStatus) []string {
		return []string{
			f.Client.String(), f.VIP.String(), f.Name, f.Protocol, f.Farm + "/" + f.Real, f.Source, strconv.Itoa(f.Slot.Number),
			dash(f.Slot.Primary), dash(f.Slot.Secondary), yes(f.Elsewhere),
		}
	})
	if len(list.Flows) > 0 {
		if err := writeTable(out, head, list.Flows, row); err != nil {
			return err
		}
	}
	if list.Why != "" {
		fmt.Fprintf(out, "no flow is known: %s\n", list.Why)
	}
	if list.More > 0 {
		fmt.Fprintf(out, "and %d more; --limit lists more of them, --vip, --real and --client fewer\n", list.More)
	}
	if list.Behind != "" {
		fmt.Fprintf(out, "note: %s\n", list.Behind)
	}
	if list.Displaced > 0 {
		fmt.Fprintf(out, "note: %d flows that began in a transition had to make room for others since the maps were made\n", list.Displaced)
	}
	return writeUnknown(out, list.Unknown)
}

// writeUnknown says of which flows nothing is known.
func writeUnknown(out io.Writer, unknown []lb.UnknownFlows) error {
	for _, u := range unknown {
		what := "farm " + u.Farm
		if u.Real != "" {
			what = u.Farm + "/" + u.Real
		}
		if _, err := fmt.Fprintf(out, "not known: flows of %s: %s\n", what, u.Why); err != nil {
			return err
		}
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
