package main

import (
	"fmt"

	"anycastle/gss"

	"github.com/spf13/cobra"
)

func newAdopt(e env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "adopt ZONE KEY", Short: "Take over a zone that another server has signed, with its key",
		Long: `Takes over a zone that was signed elsewhere with one key for everything (a combined signing key), whose DS record the parent
has. Put the key's files, as BIND's dnssec-keygen makes them (such as Kexample.org.+013+12345.key and .private), into the
directory of keys first. Nothing changes for validators; the key is rolled later like any other. It is for the server that
keeps the keys, before dnssec of the zone is in its node file.`,
		Example: "  anycastle adopt example.org Kexample.org.+013+12345",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := gss.AdoptKey(dir, args[0], args[1]); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s is signed with key %s from the next start or reload on\n", args[0], args[1])
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "keys", gss.DefaultKeys, "directory of keys")
	return cmd
}
