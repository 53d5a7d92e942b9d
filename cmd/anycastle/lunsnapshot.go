package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"anycastle/internal/daemon"
	"anycastle/mailroles"

	"github.com/spf13/cobra"
)

// addSnapshotView adds `show snapshot`.
func addSnapshotView(cmd *cobra.Command, e env, f *showFlags) {
	addView(cmd, e, f, view[mailroles.SnapshotState]{
		noun: "snapshot", short: "Snapshots of the LUNs that are kept here, to restore from", roles: []string{"store"},
		name: func(s mailroles.SnapshotState) string { return s.LUN },
		head: []string{"LUN", "SNAPSHOT", "OPERATION", "AGE", "MAILBOXES", "MESSAGES", "BYTES", "LACKING", "METHOD", "ASKED FOR"},
		rows: one(snapshotRow),
	})
}

func snapshotRow(s mailroles.SnapshotState) []string {
	return []string{
		s.LUN, s.ID, strconv.FormatUint(s.Index, 10), ago(s.Time), strconv.Itoa(s.Mailboxes), strconv.FormatInt(s.Messages, 10),
		strconv.FormatInt(s.Bytes, 10), strconv.FormatInt(s.Lacking, 10), s.Method, yes(s.Manual),
	}
}

// newLUNSnapshot makes `lun snapshot`.
func newLUNSnapshot(e env) *cobra.Command {
	var runDir, output string
	cmd := &cobra.Command{
		Use:   "snapshot LUN",
		Short: "Take a snapshot of a LUN now, at all its replicas",
		Long: `Takes a snapshot of a LUN besides those of every 8 hours, and ends when it is whole here. All replicas take
it at the same operation. The last five of those that were asked for are kept, beside the last five of the others. Run it
where the LUN is active: show lun.`,
		Example: "  anycastle lun snapshot lun-east",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			var s mailroles.SnapshotState
			if err := postLong(cmd.Context(), runDir, "/v1/lun-snapshot", mailroles.SnapshotOrder{LUN: args[0]}, &s); err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(e.stdout, s)
			}
			fmt.Fprintf(e.stdout, "%s: snapshot %s at operation %d, %d mailboxes, %d messages, %d bytes, by %s in %v\n", s.LUN, s.ID, s.Index,
				s.Mailboxes, s.Messages, s.Bytes, s.Method, time.Duration(s.Took*float64(time.Second)).Round(time.Millisecond))
			if s.Lacking > 0 {
				fmt.Fprintf(e.stdout, "%d of them have no body here; other replicas may have it\n", s.Lacking)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// postLong asks the store for something that may take long; an interrupt ends it.
func postLong(ctx context.Context, runDir, path string, in, out any) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	body, err := daemon.Stream(ctx, runDir, "store", http.MethodPost, path, text)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(out); err != nil && err != io.EOF {
		return fmt.Errorf("read the answer of store: %w", err)
	}
	return nil
}
