package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newCheck(e env) *cobra.Command {
	var diff *diffFlags
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Read node files as the roles would, and say what is wrong",
		Long: `Reads each node file the way the roles read it and prints everything that is wrong as
file:line: key: what is wrong and how to mend it. Changes nothing and needs no privilege.
Files that a node file names (mailboxes, certificates) are read too.

Exit status 0 when every file is right, 2 when one is not.`,
		Example: "  anycastle check /etc/anycastle/node.yml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			if diff.diff {
				return diff.run(cmd, e, files)
			}
			var errs []error
			for _, file := range files {
				node, err := loadNode(file)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(e.stdout, "%s: right; roles: %s\n", file, node.describe())
				if node.GSS == nil {
					continue
				}
				if text := node.GSS.QueryLog.Remark(); text != "" {
					fmt.Fprintf(e.stderr, "%s: %s\n", file, text)
				}
			}
			if err := errors.Join(errs...); err != nil {
				return usageError{err}
			}
			return nil
		},
	}
	diff = addDiff(cmd)
	return cmd
}
