package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"anycastle/lab/reach"
	"anycastle/lab/runner"

	"github.com/spf13/cobra"
)

// pickNodes turns the names of nodes and of groups, such as a site's, into those of nodes, each once.
func pickNodes(lab *runner.Lab, names []string) ([]string, error) {
	var nodes []string
	for _, name := range names {
		group := lab.Topology.Group(name)
		if _, ok := lab.Topology.Node(name); ok {
			group = []string{name}
		}
		if len(group) == 0 {
			return nil, usageError{fmt.Errorf("lab %s has no node and no group %q; `lab status %s` lists them", lab.Name, name, lab.Name)}
		}
		nodes = append(nodes, group...)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes), nil
}

func newLabPower(e env, f *labFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "power",
		Short: "Take the power from nodes, or give it back",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(
		newLabSeveral(e, f, &cobra.Command{
			Use:   "off NAME NODE|GROUP...",
			Short: "Links lose the carrier at both ends, processes end, addresses and pins are gone",
			Long: `Takes the power from nodes, or from all of a group such as a site, at one moment. Their links lose
the carrier at both ends before the processes end, so nobody gets a last word out. What a machine
keeps in its memory is gone: sockets, addresses, routes, nftables, pinned BPF programs. Files stay.`,
			Example: "  anycastle lab power off two-site east-core1\n  anycastle lab power off two-site east",
		}, "power off", func(ctx context.Context, lab *runner.Lab, nodes []string) error { return lab.PowerOff(ctx, nodes...) }),
		newLabSeveral(e, f, &cobra.Command{
			Use:   "on NAME NODE|GROUP...",
			Short: "Links come up, and the node's command starts again",
		}, "power on", func(ctx context.Context, lab *runner.Lab, nodes []string) error { return lab.PowerOn(ctx, nodes...) }),
	)
	return cmd
}

// newLabSeveral makes a command that does one thing to several nodes.
func newLabSeveral(e env, f *labFlags, cmd *cobra.Command, done string, do func(context.Context, *runner.Lab, []string) error) *cobra.Command {
	cmd.Args = cobra.MinimumNArgs(2)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		lab, err := runner.Open(args[0], f.root)
		if err != nil {
			return err
		}
		nodes, err := pickNodes(lab, args[1:])
		if err != nil {
			return err
		}
		if err := do(cmd.Context(), lab, nodes); err != nil {
			return err
		}
		for _, n := range nodes {
			fmt.Fprintf(e.stdout, "%s: %s done\n", n, done)
		}
		return nil
	}
	return cmd
}

const pauseLong = `Stops processes where they stand, as in a machine that hangs: its ports stay open, the kernel still
answers SYN and ping, and nothing else comes. ROLE stops one role alone, such as lb, smtp or store;
without it every process of the node stops.`

// newLabPause makes pause and resume, which take a role too.
func newLabPause(e env, f *labFlags, verb, short, long string, do func(*runner.Lab, context.Context, string, string) error) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " NAME NODE [ROLE]",
		Short:   short,
		Long:    long,
		Example: fmt.Sprintf("  anycastle lab %s two-site east-lb1\n  anycastle lab %s two-site east-mx1 smtp", verb, verb),
		Args:    cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := runner.Open(args[0], f.root)
			if err != nil {
				return err
			}
			role := ""
			if len(args) > 2 {
				role = args[2]
			}
			if err := do(lab, cmd.Context(), args[1], role); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: %s done\n", strings.Join(args[1:], " "), verb)
			return nil
		},
	}
}

func newLabDisk(e env, f *labFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "disk",
		Short: "Fill the disk of a node that has one of its own (label anycastle-disk), or free it",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(
		newLabNode(e, f, "fill", "Take every free byte of the node's disk", (*runner.Lab).FillDisk),
		newLabNode(e, f, "free", "Undo fill", (*runner.Lab).FreeDisk),
	)
	return cmd
}

// newLabReach is what a reachability matrix runs in nodes.
func newLabReach(e env) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:    "reach TARGET...",
		Short:  "Ask services from here whether they answer; prints JSON",
		Long:   "Asks all at once. A TARGET is \"tcp ADDRESS:PORT\", or \"dns ADDRESS:PORT\" for a question by UDP.",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var targets []reach.Target
			for _, a := range args {
				t, err := reach.ParseTarget(a)
				if err != nil {
					return usageError{err}
				}
				targets = append(targets, t)
			}
			return writeJSON(e.stdout, reach.Probe(cmd.Context(), targets, timeout))
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Second, "how long to wait for each")
	return cmd
}
