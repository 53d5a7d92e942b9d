package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/daemon"

	"github.com/spf13/cobra"
)

func newShow(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Ask the roles that run on this node what they know, and why",
		Long: `Asks the role processes of this node over their status sockets. Every noun takes a NAME, as in the
first column, to show that alone, and -o json, whose keys stay the same from version to version.`,
		Args: cobra.NoArgs,
	}
	f := &showFlags{}
	cmd.PersistentFlags().StringVarP(&f.output, "output", "o", "table", "table or json")
	cmd.PersistentFlags().StringVar(&f.runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.PersistentFlags().StringVar(&f.role, "role", "", "the role to ask; the first that runs and knows the noun unless given")
	addViews(cmd, e, f)
	return cmd
}

type showFlags struct{ output, runDir, role string }

// view is one noun: which roles may know it, and how an item is laid out in rows.
type view[T any] struct {
	noun, short string
	roles       []string // asked in turn; the first that runs answers
	head        []string
	rows        func(T) [][]string
	name        func(T) string // that an item goes by; nil: the first column
}

// one makes a layout with one row for each item.
func one[T any](row func(T) []string) func(T) [][]string {
	return func(item T) [][]string { return [][]string{row(item)} }
}

// addView adds `show NOUN`, which reads a JSON list of T from /v1/NOUN.
func addView[T any](parent *cobra.Command, e env, f *showFlags, v view[T]) {
	addNoun(parent, f, v.noun, v.short, v.roles, v.show(e, f))
}

// addNoun adds `show NOUN`, of which different roles know different things: the first view that finds its role shows it.
func addNoun(parent *cobra.Command, f *showFlags, noun, short string, roles []string, views ...func(context.Context, string) error) {
	parent.AddCommand(&cobra.Command{
		Use:   noun + " [NAME]",
		Short: short,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(f.output); err != nil {
				return err
			}
			if f.role != "" && !slices.Contains(roles, f.role) {
				return usageError{fmt.Errorf("--role %s: %s is known by %s", f.role, noun, strings.Join(roles, ", "))}
			}
			for _, show := range views {
				if err := show(cmd.Context(), strings.Join(args, "")); !errors.Is(err, daemon.ErrNotRunning) {
					return err
				}
			}
			return fmt.Errorf("none of the roles that know %s runs here (%s); looked in %s", noun, strings.Join(roles, ", "), f.runDir)
		},
	})
}

// show asks the first role of the view that runs, and lays out what it says of a name; of all if that is empty.
func (v view[T]) show(e env, f *showFlags) func(context.Context, string) error {
	return func(ctx context.Context, name string) error {
		err := daemon.ErrNotRunning
		for _, role := range v.roles {
			if f.role != "" && f.role != role {
				continue
			}
			list := []T{}
			if err = daemon.Get(ctx, f.runDir, role, "/v1/"+v.noun, &list); errors.Is(err, daemon.ErrNotRunning) {
				continue
			}
			if err == nil && name != "" {
				list, err = v.named(list, name)
			}
			if err != nil {
				return err
			}
			if f.output == "json" {
				return writeJSON(e.stdout, list)
			}
			return writeTable(e.stdout, v.head, list, v.rows)
		}
		return err
	}
}

// named gives the items that go by a name.
func (v view[T]) named(list []T, name string) ([]T, error) {
	var found []T
	var known []string
	for _, item := range list {
		is := ""
		if v.name != nil {
			is = v.name(item)
		} else if rows := v.rows(item); len(rows) > 0 {
			is = rows[0][0]
		}
		if is == name {
			found = append(found, item)
		} else if !slices.Contains(known, is) {
			known = append(known, is)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	if near := config.Nearest(name, known); near != "" {
		return nil, fmt.Errorf("no %s is called %q; did you mean %s?", v.noun, name, near)
	}
	return nil, fmt.Errorf("no %s is called %q; `anycastle show %[1]s` lists all", v.noun, name)
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

// until says how long it takes to a time that may not be known.
func until(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return time.Until(t).Round(time.Second).String()
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
