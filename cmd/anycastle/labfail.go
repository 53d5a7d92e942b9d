package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"anycastle/lab/fault"
	"anycastle/lab/runner"

	"github.com/spf13/cobra"
)

const labFailLong = `Breaks a part of a running lab, as an accident would, and says what to look at. It stays broken
until ` + "`lab heal`" + `.

  node NODE...     every process is killed (SIGKILL); links and addresses stay
  role NODE ROLE   the process of one role is killed; its node starts it again
  hang NODE [ROLE] every process, or that of one role, is stopped where it stands (SIGSTOP): its
                   ports stay open and nothing answers
  power NODE...    no power: no process, and no carrier at either end of its lines
  link NODE NODE   the lines between two nodes lose every packet, without a sign
  site SITE        all lines of a site to the rest do
  isp NODE         all lines of one node do, an ISP's or any other's
  disk NODE        the disk of a node is full; it must have one of its own`

func newLabFail(e env, f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "fail NAME WHAT...",
		Short: "Break something by hand, and say what to look at",
		Long:  labFailLong,
		Example: "  anycastle lab fail two-site node east-mx1\n  anycastle lab fail two-site hang east-mx1 smtp\n" +
			"  anycastle lab fail two-site site east\n  anycastle lab heal two-site",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			lab, err := runner.Open(args[0], f.root)
			if err != nil {
				return err
			}
			x, err := fault.Parse(lab.Topology, args[1:])
			if err != nil {
				return usageError{err}
			}
			if err := x.Apply(ctx, lab); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s\nlook:  anycastle %s\n", x.Done(), x.Hint(lab.Topology, lab.Name))
			if x.Kind != fault.Role {
				fmt.Fprintf(e.stdout, "heal:  anycastle lab heal %s %s\n", lab.Name, x)
			}
			return nil
		},
	}
}

const labHealLong = `Heals what is broken in a running lab: everything, or what the words mean. It finds out by itself
what that is, from the processes, carriers and cuts that are there, whoever broke it.

The words are a fault as ` + "`lab fail`" + ` has it (site east), or where it is: a node, a site, or the two
ends of a line. A node that has ended altogether (` + "`lab status`" + ` says gone) comes back only by
lab down and lab up.`

func newLabHeal(e env, f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "heal NAME [WHAT...|all]",
		Short: "Heal everything that is broken, or a part of it",
		Long:  labHealLong,
		Example: "  anycastle lab heal two-site\n  anycastle lab heal two-site east-mx1\n" +
			"  anycastle lab heal two-site link east-core1 west-core1",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			lab, err := runner.Open(args[0], f.root)
			if err != nil {
				return err
			}
			healed, err := heal(ctx, lab, args[1:])
			for _, x := range healed {
				fmt.Fprintf(e.stdout, "%s\n", x.Undone())
			}
			if err != nil {
				return err
			}
			if len(healed) == 0 {
				fmt.Fprintln(e.stdout, "nothing is broken")
				return nil
			}
			fmt.Fprintf(e.stdout, "look:  anycastle %s\n", healed[0].Hint(lab.Topology, lab.Name))
			return nil
		},
	}
}

// heal undoes the faults that the words mean, and gives those that it has undone. One that cannot be healed does not keep
// the others from it.
func heal(ctx context.Context, lab *runner.Lab, words []string) ([]fault.Fault, error) {
	facts, err := fault.Look(lab)
	if err != nil {
		return nil, err
	}
	picked, err := fault.Pick(lab.Topology, fault.Standing(lab.Topology, facts), words)
	if err != nil {
		return nil, usageError{err}
	}
	var healed []fault.Fault
	var errs []error
	for _, x := range fault.Together(picked) {
		if err := x.Undo(ctx, lab); err != nil {
			errs = append(errs, err)
			continue
		}
		healed = append(healed, x)
	}
	return healed, errors.Join(errs...)
}

// healQuietly is heal for a place with one line.
func healQuietly(ctx context.Context, lab *runner.Lab, words []string) (string, error) {
	healed, err := heal(ctx, lab, words)
	var said []string
	for _, x := range healed {
		said = append(said, x.String())
	}
	if len(said) == 0 {
		return "nothing is broken", err
	}
	return "healed: " + strings.Join(said, "; "), err
}
