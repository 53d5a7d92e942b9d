package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"anycastle/internal/config"
	"anycastle/lab/board"
	"anycastle/lab/scenario"

	"github.com/spf13/cobra"
)

// newLabRun runs scenarios that are named, or all.
func newLabRun(e env, f *labFlags) *cobra.Command {
	o := board.Options{Title: "lab", Out: e.stdout}
	var all, list bool
	cmd := &cobra.Command{
		Use:   "run [SCENARIO...]",
		Short: "Put labs through scenarios under load, and say what a client saw and which promises were kept",
		Long: `Builds a lab of each topology that the scenarios need, and goes through them: the fault, and the way
back from it, each a row of the table. A SCENARIO is the name of one in the binary (--list), or a file.
Ends with a table and a report, removes the labs, and names the folder with report and logs. Exit
status 1 says that a promise was not kept.`,
		Args:    cobra.ArbitraryArgs,
		Example: "  anycastle lab run real-killed store-killed\n  anycastle lab run --all --report /tmp/report",
		RunE: func(cmd *cobra.Command, args []string) error {
			known, err := scenario.All()
			if err != nil {
				return err
			}
			if list {
				return listScenarios(e, known)
			}
			if all == (len(args) > 0) {
				return usageError{errors.New("name scenarios, or give --all; --list tells their names")}
			}
			if o.Scenarios = known; !all {
				if o.Scenarios, err = chosen(known, args); err != nil {
					return usageError{err}
				}
			}
			return runScenarios(cmd.Context(), f, o)
		},
	}
	addRunFlags(cmd, &o)
	cmd.Flags().BoolVar(&all, "all", false, "every scenario in the binary")
	cmd.Flags().BoolVar(&list, "list", false, "name the scenarios in the binary, and run none")
	return cmd
}

func addRunFlags(cmd *cobra.Command, o *board.Options) {
	cmd.Flags().StringVar(&o.Name, "name", fmt.Sprintf("%s-%d", o.Title, os.Getpid()), "name of the lab")
	cmd.Flags().StringVar(&o.Logs, "logs", "", "folder for the logs; one in the report's unless given")
	cmd.Flags().StringVar(&o.Report, "report", "", "folder for the report; a new one below the system's temporary folder unless given")
	cmd.Flags().Lookup("name").DefValue = o.Title + "-PID"
}

func runScenarios(ctx context.Context, f *labFlags, o board.Options) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	o.Root = f.root
	return board.Run(ctx, o)
}

// chosen finds scenarios by name, or reads them from files.
func chosen(known []scenario.Scenario, args []string) ([]scenario.Scenario, error) {
	var list []scenario.Scenario
	var names []string
	for _, s := range known {
		names = append(names, s.Name)
	}
	for _, arg := range args {
		if i := slices.Index(names, arg); i >= 0 {
			list = append(list, known[i])
			continue
		}
		text, err := os.ReadFile(arg)
		if errors.Is(err, os.ErrNotExist) && !strings.Contains(arg, ".") {
			if near := config.Nearest(arg, names); near != "" {
				return nil, fmt.Errorf("no scenario is called %q; did you mean %s?", arg, near)
			}
			return nil, fmt.Errorf("no scenario is called %q; `anycastle lab run --list` names them", arg)
		} else if err != nil {
			return nil, fmt.Errorf("scenario: %w", err)
		}
		s, err := scenario.Parse(arg, string(text))
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func listScenarios(e env, known []scenario.Scenario) error {
	return writeTable(e.stdout, []string{"SCENARIO", "TOPOLOGY", "DEMO", "FAULT"}, known, one(func(s scenario.Scenario) []string {
		return []string{s.Name, s.Topology, yes(s.Demo), s.Title}
	}))
}
