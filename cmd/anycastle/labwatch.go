package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"anycastle/lab/fault"
	"anycastle/lab/runner"
	"anycastle/lab/watch"

	"github.com/spf13/cobra"
)

const labWatchLong = `Shows how a running lab is, and goes on showing it: sites, VIPs and from where they are announced,
reals and why they are in or out, the routes of the VIPs at the routers, what the site selectors
answer, LUNs with their replicas, and the last lines of the nodes' logs. It looks once a second.

Keys: tab and 1 to 8 change the pane, arrows scroll, f breaks and h heals the chosen node, H heals
all, ? explains, q quits. Nothing in the lab depends on it: quit and come back as you like.

With --once, or when the output is no terminal, it prints one frame and ends; with -o json what it
found, whose keys stay the same. Colours are left out where NO_COLOR is set.`

// labWatchFlags are those of `lab watch`.
type labWatchFlags struct {
	once          bool
	output, pane  string
	width, height int
}

func newLabWatch(e env, f *labFlags) *cobra.Command {
	var w labWatchFlags
	cmd := &cobra.Command{
		Use:     "watch NAME",
		Short:   "Show how a running lab is, until you quit",
		Long:    labWatchLong,
		Example: "  anycastle lab watch two-site\n  anycastle lab watch two-site --once --pane luns\n  anycastle lab watch two-site -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			pane, err := w.check()
			if err != nil {
				return usageError{err}
			}
			lab, err := runner.Open(args[0], f.root)
			if err != nil {
				return err
			}
			collector := watch.NewCollector(lab)
			if w.once || w.output == "json" || !watch.IsTerminal(e.stdout) || !watch.IsTerminal(e.stdin) {
				return w.print(ctx, e, collector, pane)
			}
			return watch.Run(ctx, watch.Options{
				Topology: lab.Topology, Collect: collector.Collect, In: e.stdin, Out: e.stdout, Colour: watch.WantsColour(os.Getenv),
				Fail: func(ctx context.Context, x fault.Fault) (string, error) { return x.Done(), x.Apply(ctx, lab) },
				Heal: func(ctx context.Context, words []string) (string, error) { return healQuietly(ctx, lab, words) },
			})
		},
	}
	cmd.Flags().BoolVar(&w.once, "once", false, "print one frame and end")
	cmd.Flags().StringVarP(&w.output, "output", "o", "text", "text or json")
	cmd.Flags().StringVar(&w.pane, "pane", "overview", "with --once, the pane: overview, nodes, vips, reals, routes, answers, luns or events")
	cmd.Flags().IntVar(&w.width, "width", 140, "with --once, columns of the frame")
	cmd.Flags().IntVar(&w.height, "height", 50, "with --once, lines of the frame")
	return cmd
}

func (w labWatchFlags) check() (watch.Pane, error) {
	if w.output != "text" && w.output != "json" {
		return 0, fmt.Errorf("-o %s: want text or json", w.output)
	}
	if w.width < 40 || w.width > 1000 || w.height < 10 || w.height > 10000 {
		return 0, fmt.Errorf("--width %d --height %d: want at least 40 and 10, at most 1000 and 10000", w.width, w.height)
	}
	pane, err := watch.ParsePane(w.pane)
	if err != nil {
		return 0, fmt.Errorf("--pane %w", err)
	}
	return pane, nil
}

// print looks once.
func (w labWatchFlags) print(ctx context.Context, e env, c *watch.Collector, pane watch.Pane) error {
	state, err := c.Collect(ctx)
	if err != nil {
		return err
	}
	if w.output == "json" {
		return writeJSON(e.stdout, state)
	}
	colour := watch.IsTerminal(e.stdout) && watch.WantsColour(os.Getenv)
	_, err = io.WriteString(e.stdout, watch.Frame(state, pane, w.width, w.height, colour))
	return err
}
