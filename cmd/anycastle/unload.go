package main

import (
	"fmt"

	"anycastle/bpf"

	"github.com/spf13/cobra"
)

func newUnload(e env) *cobra.Command {
	dir := bpf.DefaultLBDir
	cmd := &cobra.Command{
		Use:   "unload",
		Short: "Take the balancer's programs off their interfaces and remove all that is pinned",
		Long: `Removes what a balancer leaves in place when it stops. Packets for VIPs are no longer balanced
from that moment on. Stop the balancer first.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := bpf.Unload(dir); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: nothing is pinned\n", dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "pin-dir", dir, "folder of the pins")
	return cmd
}
