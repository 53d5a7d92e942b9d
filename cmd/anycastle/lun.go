package main

import "github.com/spf13/cobra"

// newLUN makes `lun`, whose commands change a LUN of the store that runs here.
func newLUN(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lun",
		Short: "Move, scrub or promote a LUN, take a snapshot of it, or restore from one",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newLUNMove(e), newLUNScrub(e), newLUNPromote(e), newLUNSnapshot(e), newLUNRestore(e))
	return cmd
}
