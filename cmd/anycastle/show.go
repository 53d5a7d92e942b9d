package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"anycastle/internal/daemon"

	"github.com/spf13/cobra"
)

func newShow(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Ask the roles that run on this node what they know, and why",
		Long: `Asks the role processes of this node over their status sockets. Every noun takes -o json,
whose keys stay the same from version to version.`,
		Args: cobra.NoArgs,
	}
	f := &showFlags{}
	cmd.PersistentFlags().StringVarP(&f.output, "output", "o", "table", "table or json")
	cmd.PersistentFlags().StringVar(&f.runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	addViews(cmd, e, f)
	return cmd
}

type showFlags struct{ output, runDir string }

// view is one noun: which roles may know it, and how an item is laid out in rows.
type view[T any] struct {
	noun, short string
	roles       []string // asked in turn; the first that runs answers
	head        []string
	rows        func(T) [][]string
}

// one makes a layout with one row for each item.
func one[T any](row func(T) []string) func(T) [][]string {
	return func(item T) [][]string { return [][]string{row(item)} }
}

// addView adds `show NOUN`, which reads a JSON list of T from /v1/NOUN.
func addView[T any](parent *cobra.Command, e env, f *showFlags, v view[T]) {
	parent.AddCommand(&cobra.Command{
		Use:   v.noun,
		Short: v.short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(f.output); err != nil {
				return err
			}
			list, err := askFirst[T](cmd, f.runDir, v.noun, v.roles)
			if err != nil {
				return err
			}
			if f.output == "json" {
				return writeJSON(e.stdout, list)
			}
			return writeTable(e.stdout, v.head, list, v.rows)
		},
	})
}

func checkOutput(output string) error {
	if output != "table" && output != "json" {
		return usageError{fmt.Errorf("-o %s: want table or json", output)}
	}
	return nil
}

func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func askFirst[T any](cmd *cobra.Command, runDir, noun string, roles []string) ([]T, error) {
	for _, role := range roles {
		list := []T{}
		err := daemon.Get(cmd.Context(), runDir, role, "/v1/"+noun, &list)
		if !errors.Is(err, daemon.ErrNotRunning) {
			return list, err
		}
	}
	return nil, fmt.Errorf("none of the roles that know %s runs here (%s); looked in %s", noun, strings.Join(roles, ", "), runDir)
}

func writeTable[T any](out io.Writer, head []string, list []T, rows func(T) [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, item := range list {
		for _, row := range rows(item) {
			fmt.Fprintln(w, strings.Join(row, "\t"))
		}
	}
	return w.Flush()
}

// ago says how long ago a state began.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return time.Since(t).Round(time.Second).String()
}

// after says how long after a beginning something happened that may not have happened yet.
func after(begun, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Sub(begun).Round(10 * time.Microsecond).String()
}

// in says how long it is until something ends that may have no end.
func in(t time.Time) string {
	if left := time.Until(t); left > 0 {
		return left.Round(time.Second).String()
	}
	return "-"
}

// count says how many there are, if anybody knows.
func count(n *int) string {
	if n == nil {
		return "-"
	}
	return strconv.Itoa(*n)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// words joins a list of anything that prints.
func words[T any](list []T) string {
	var s []string
	for _, item := range list {
		s = append(s, fmt.Sprint(item))
	}
	if len(s) == 0 {
		return "-"
	}
	return strings.Join(s, ", ")
}
