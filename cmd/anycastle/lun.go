package main

import "github.com/spf13/cobra"

// newLUN makes `lun`, whose commands change the LUN of a store that runs here.
func newLUN(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lun",
		Short: "Take a snapshot of a LUN, or restore from one",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newLUNSnapshot(e), newLUNRestore(e))
	return cmd
}
