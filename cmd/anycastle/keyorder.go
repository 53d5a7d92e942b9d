package main

import (
	"fmt"

	"anycastle/gss"
	"anycastle/internal/daemon"

	"github.com/spf13/cobra"
)

func newRoll(e env) *cobra.Command {
	var compromised string
	cmd := newKeyOrder(e, "roll ZONE", "Have the key of a signed zone be replaced",
		`Has the next key take the place of the present one, step by step, so that the zone validates at every moment. It is
refused while a roll is under way, which would begin anew. With
--compromised a key that others have got hold of is replaced as fast as that allows.`,
		func(o *gss.KeyOrder) {
			if o.Kind = "roll"; compromised != "" {
				o.Kind, o.Key = "compromise", compromised
			}
		})
	cmd.Flags().StringVar(&compromised, "compromised", "", "the key that others have, as in show key")
	return cmd
}

func newConfirm(e env) *cobra.Command {
	return newKeyOrder(e, "confirm ZONE", "Say that the parent of a signed zone has the DS records that it is asked for",
		`Says that all servers of the parent have the DS records that the zone asks for with CDS, and no others: for a parent whose
servers are not asked (dnssec.resolver or dnssec.parent_servers). Said too soon, it breaks the zone for validators.`,
		func(o *gss.KeyOrder) { o.Kind = "confirm" })
}

func newKeyOrder(e env, use, short, long string, kind func(*gss.KeyOrder)) *cobra.Command {
	var runDir string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long + "\n\nIt is for the server that keeps the keys; show key says how they are.", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := gss.KeyOrder{Zone: args[0]}
			kind(&o)
			var keys []gss.KeyStatus
			if err := daemon.Post(cmd.Context(), runDir, "gss", "/v1/key-order", o, &keys); err != nil {
				return err
			}
			for _, k := range keys {
				fmt.Fprintf(e.stdout, "%s: key %s is %s\n", k.Zone, k.ID, k.State)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	return cmd
}
