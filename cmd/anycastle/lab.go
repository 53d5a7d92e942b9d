package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"anycastle/lab/board"
	"anycastle/lab/runner"
	"anycastle/lab/scenario"
	"anycastle/lab/topo"
	"anycastle/lab/topology"

	"github.com/spf13/cobra"
)

const labLong = `Builds whole sites on this machine from network namespaces and veth pairs: no container engine, no
other program, and nothing appears in the machine's own namespace. Needs root.

A topology is a name (` + "`lab up two-site`" + `) or the path of a containerlab file. State and logs
are below ` + runner.DefaultRoot + `.`

// labFlags are those of every lab command.
type labFlags struct{ root string }

func newLab(e env) *cobra.Command {
	f := &labFlags{}
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Two sites on this machine: build, break, watch, remove",
		Long:  labLong,
		Args:  cobra.NoArgs,
	}
	cmd.PersistentFlags().StringVar(&f.root, "state", runner.DefaultRoot, "folder of the labs' state and logs")
	cmd.AddCommand(
		newLabUp(e, f), newLabDown(e, f), newLabExec(e, f), newLabStatus(e, f),
		newLabNode(e, f, "kill", "SIGKILL every process of a node", (*runner.Lab).Kill),
		newLabNode(e, f, "start", "Start a node's command again", (*runner.Lab).Start),
		newLabPower(e, f), newLabDisk(e, f), newLabReach(e),
		newLabPause(e, f, "pause", "Stop all of a node, or one role, where it stands", pauseLong, (*runner.Lab).Pause),
		newLabPause(e, f, "resume", "Let what pause has stopped go on", "", (*runner.Lab).Resume),
		newLabCut(e, f), newLabFail(e, f), newLabHeal(e, f), newLabWatch(e, f), newLabGraph(e, f),
		newLabNew(e), newLabKeys(e), newLabDemo(e, f), newLabRun(e, f), newLabClient(e),
		&cobra.Command{
			Use: "init", Short: "The first process of a node; started by lab up", Hidden: true, Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return runner.InitMain() },
		},
	)
	return cmd
}

func newLabUp(e env, f *labFlags) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "up TOPOLOGY",
		Short:   "Build a lab and start its nodes",
		Long:    "Builds a lab. It stays until `lab down`. Topologies in this binary: " + strings.Join(topo.Names(), ", ") + ".",
		Example: "  anycastle lab up two-site\n  anycastle lab up two-site --name second",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			files, file, err := topo.Find(args[0])
			if err != nil {
				return usageError{err}
			}
			lab, err := runner.Up(ctx, runner.Options{
				Topology: file, Files: files, Name: name, Root: f.root, Prepare: topo.Prepare,
				Progress: func(line string) { fmt.Fprintln(e.stdout, line) },
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "lab %s is up: %d nodes; state and logs in %s\n", lab.Name, len(lab.Topology.Nodes), lab.StateDir)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the lab; the topology's own unless given")
	return cmd
}

func newLabDown(e env, f *labFlags) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "down NAME",
		Short: "Remove a lab and everything it made",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := runner.Open(args[0], f.root)
			if errors.Is(err, runner.ErrNoLab) {
				if err := runner.Sweep(args[0], f.root); err != nil {
					return err
				}
				fmt.Fprintf(e.stdout, "no lab is called %s\n", args[0])
				return nil
			}
			if err != nil {
				return err
			}
			if err := lab.Down(cmd.Context(), keep); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "lab %s is gone\n", lab.Name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&keep, "keep-logs", false, "leave the nodes' logs in the state folder")
	return cmd
}

func newLabExec(e env, f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "exec NAME NODE -- COMMAND [ARG...]",
		Short:   "Run a command inside a node",
		Example: "  anycastle lab exec two-site east-lb1 -- anycastle show vip",
		Args:    cobra.MinimumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			lab, err := runner.Open(args[0], f.root)
			if err != nil {
				return err
			}
			c := lab.Command(ctx, args[1], args[2:]...)
			c.Stdin, c.Stdout, c.Stderr = e.stdin, e.stdout, e.stderr
			err = c.Run()
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.Exited() {
				return exitCode(exit.ExitCode())
			}
			return err
		},
	}
}

func newLabStatus(e env, f *labFlags) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "List labs, or show the nodes, processes, memory and links of one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if len(args) == 0 {
				return listLabs(e, f.root, output)
			}
			lab, err := runner.Open(args[0], f.root)
			if err != nil {
				return err
			}
			st, err := lab.Status()
			if err != nil {
				return err
			}
			if err := st.MeasureMemory(); err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(e.stdout, st)
			}
			return writeLabStatus(e, st)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func listLabs(e env, root, output string) error {
	names, err := runner.List(root)
	if err != nil {
		return err
	}
	if output == "json" {
		return writeJSON(e.stdout, append([]string{}, names...))
	}
	for _, n := range names {
		fmt.Fprintln(e.stdout, n)
	}
	return nil
}

func writeLabStatus(e env, st *runner.Status) error {
	err := writeTable(e.stdout, []string{"NODE", "STATE", "MEMORY", "PROCESSES"}, st.Nodes, one(func(n runner.NodeStatus) []string {
		var procs []string
		for _, p := range n.Processes {
			role := p.Role()
			if p.Paused {
				role += " (paused)"
			}
			procs = append(procs, role)
		}
		return []string{n.Name, string(n.State), mebibytes(n.Memory), words(procs)}
	}))
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "\n%d nodes hold %s of memory\n", len(st.Nodes), mebibytes(st.Memory))
	fmt.Fprintln(e.stdout)
	return writeTable(e.stdout, []string{"LINK", "", "MTU", "STATE"}, st.Links, one(func(l runner.LinkStatus) []string {
		return []string{l.A, l.B, fmt.Sprint(l.MTU), string(l.State)}
	}))
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// newLabNode makes a command that does one thing to one node.
func newLabNode(e env, f *labFlags, verb, short string, do func(*runner.Lab, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME NODE",
		Short: short,
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := runner.Open(args[0], f.root)
			if err != nil {
				return err
			}
			if err := do(lab, cmd.Context(), args[1]); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: %s done\n", args[1], verb)
			return nil
		},
	}
}

func newLabCut(e env, f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "cut NAME GROUP|NODE",
		Short: "Lose every IP packet between a site (or a node) and the rest, without a sign",
		Long: `Drops every IP packet that arrives over the lines between the nodes of a group, such as a site,
and all others. The carrier stays and nothing is closed, so only timers can tell. A single
node's name cuts that node off.`,
		Example: "  anycastle lab cut two-site east\n  anycastle lab heal two-site",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			lab, err := runner.Open(args[0], f.root)
			if err != nil {
				return err
			}
			nodes := lab.Topology.Group(args[1])
			if _, ok := lab.Topology.Node(args[1]); ok {
				nodes = []string{args[1]}
			}
			links, err := lab.Cut(runner.Around(nodes...))
			return sayLinks(e, "cut", links, err)
		},
	}
}

func sayLinks(e env, what string, links []topology.Link, err error) error {
	for _, l := range links {
		fmt.Fprintf(e.stdout, "%s %s: %s\n", l.A, l.B, what)
	}
	return err
}

func newLabKeys(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "keys FILE",
		Short: "Make the certificates of a topology in its own folder, for containerlab",
		Long:  "Makes tls/NODE for each node that binds it, beside the topology file. `lab up` does this by itself, in a copy.",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := topo.PrepareFile(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: keys made\n", args[0])
			return nil
		},
	}
}

func newLabDemo(e env, f *labFlags) *cobra.Command {
	o := board.Options{Title: "demo", Out: e.stdout}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Mail through one VIP while servers, lines and a site fail, and a table of what a client saw",
		Long: `Builds the two-site lab, sends mail through the VIP and reads it back, then goes through the main
scenarios (those with "demo yes": ` + "`lab run --list`" + `) under the load of a client outside. Ends with a
table, removes the lab, and names the folder with report and logs. Ctrl-C removes the lab too. Exit
status 1 says that a promise was not kept.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			known, err := scenario.All()
			if err != nil {
				return err
			}
			o.Scenarios = slices.DeleteFunc(known, func(s scenario.Scenario) bool { return !s.Demo })
			return runScenarios(cmd.Context(), f, o)
		},
	}
	addRunFlags(cmd, &o)
	return cmd
}

// interruptible gives a context that ends with the first SIGINT, SIGTERM or SIGHUP. A second one within the clean-up
// is ignored: clean-up is short and must not be left half done.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
}

// clientTime bounds the jobs of the lab's client that end by themselves.
const clientTime = time.Minute
