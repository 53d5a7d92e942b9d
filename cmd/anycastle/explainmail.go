package main

import (
	"errors"
	"strings"

	"anycastle/internal/daemon"
	"anycastle/mailroles/directory"

	"github.com/spf13/cobra"
)

const explainMailLong = `Says where mail for ADDRESS goes now, and why: each alias, group and mailbox on the way, its LUN and
quota, or why the address is refused. A mail role of this node is asked, and answers from what it knows: the
mailboxes file as it has read it, or LDAP. Nothing is sent.

Without --from the mail comes from elsewhere; with it, from the user of a mailbox who has logged in to send it.
The verdict is accepted, refused, or deferred when the directory cannot tell now. The exit status is 0 whatever
is said, 1 if there is no answer.`

func newExplainMail(e env) *cobra.Command {
	var output, runDir, role string
	var q directory.Question
	cmd := &cobra.Command{
		Use:   "mail ADDRESS",
		Short: "Say where mail for an address goes, and why",
		Long:  explainMailLong,
		Example: `  anycastle explain mail info@example.org
  anycastle explain mail staff@example.org --from alice@example.org`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			q.Address = args[0]
			var x directory.Explanation
			err := daemon.ErrNotRunning
			for _, r := range mailRoles() {
				if role == "" || role == r {
					err = daemon.Post(cmd.Context(), runDir, r, "/v1/explain-mail", q, &x)
					if !errors.Is(err, daemon.ErrNotRunning) {
						break
					}
				}
			}
			if err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(e.stdout, x)
			}
			rows := [][]string{}
			for _, s := range x.Steps {
				rows = append(rows, []string{strings.Repeat("  ", s.Depth) + s.Address, s.Kind, s.Says})
			}
			rows = append(rows, []string{"verdict", x.Verdict, x.Why})
			return writeTable(e.stdout, []string{"ADDRESS", "IS", "SAYS"}, rows, one(func(row []string) []string { return row }))
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().StringVar(&role, "role", "", "the role to ask; the first that runs unless given")
	cmd.Flags().StringVar(&q.From, "from", "", "the mailbox whose user sends it")
	return cmd
}

// mailRoles gives the roles that know the directory.
func mailRoles() []string { return []string{"smtp", "submission", "imap", "store"} }
