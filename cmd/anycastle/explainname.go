package main

import (
	"fmt"
	"net/netip"

	"anycastle/gss"
	"anycastle/internal/daemon"

	"github.com/spf13/cobra"
)

const explainNameLong = `Says what a client at ADDRESS is answered with now when it asks for NAME and TYPE, and why: the zone, the rules
before the one that counts, the clause and what stood against those before it, where each answer stands, the shares of
clients, the TTL, the generation of the decision, and for which network the answer is good (RFC 7871). Where there is no
record it says why. With -o json each of these is a field of its own.

ADDRESS is the client's, or an address of the network that its resolver names. Where a balance method gives clients in turn
or by chance, the answer is one that is possible. The exit status is 0 whatever is said, 1 if there is no answer.`

func newExplainName(e env) *cobra.Command {
	var output, runDir string
	cmd := &cobra.Command{
		Use:     "name NAME TYPE ADDRESS",
		Short:   "Say what a DNS client is answered with, and why",
		Long:    explainNameLong,
		Example: `  anycastle explain name smtp.mail.example.org A 192.0.2.7`,
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			from, err := netip.ParseAddr(args[2])
			if err != nil {
				return usageError{fmt.Errorf("%q: want the address of a client", args[2])}
			}
			var x gss.Explanation
			if err := daemon.Post(cmd.Context(), runDir, "gss", "/v1/explain-name", gss.Question{Name: args[0], Type: args[1], From: from}, &x); err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(e.stdout, x)
			}
			return writeTable(e.stdout, []string{"WHAT", "SAYS"}, x.Rows(), one(func(r gss.Row) []string { return []string{r.What, r.Says} }))
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	return cmd
}
