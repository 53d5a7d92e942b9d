package main

import (
	"errors"
	"fmt"

	"anycastle/internal/daemon"
	"anycastle/mailroles"

	"github.com/spf13/cobra"
)

const explainLUNLong = `Says why a LUN is active where it is, whether it acknowledges mail now, and if not, why; and what keeps
each other replica from being active. The store, or the witness, of this node is asked. The exit status is 0 whatever is
said, 1 if there is no answer.`

func newExplainLUN(e env) *cobra.Command {
	var runDir, output string
	cmd := &cobra.Command{
		Use: "lun NAME", Short: "Say why a LUN is active where it is, and why it does not acknowledge", Long: explainLUNLong,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			var list []mailroles.LUNState
			err := daemon.ErrNotRunning
			for _, role := range lunRoles {
				if err = daemon.Get(cmd.Context(), runDir, role, "/v1/lun", &list); !errors.Is(err, daemon.ErrNotRunning) {
					break
				}
			}
			if err != nil {
				return err
			}
			for _, l := range list {
				if l.Name != args[0] {
					continue
				}
				if output == "json" {
					return writeJSON(e.stdout, l.Explain())
				}
				for _, line := range l.Explain() {
					fmt.Fprintln(e.stdout, line)
				}
				return nil
			}
			return fmt.Errorf("no LUN is called %q here; `anycastle show lun` lists all", args[0])
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	return cmd
}
