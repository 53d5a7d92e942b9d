package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"anycastle/internal/daemon"
	"anycastle/mailroles"
	"anycastle/mailroles/store"

	"github.com/spf13/cobra"
)

const restoreLong = `Puts back what a mailbox held at some moment, and holds no more: all of it, a folder, or one message by its UID or
its Message-ID. The moment is that of a snapshot (show snapshot), a time, or an operation of the log, which is kept for
40 hours. What is still in the mailbox is left alone, also when it has moved to another folder, so that a restore
can be repeated.

Messages keep their UIDs, and deleted folders their UIDVALIDITY, where nothing stands against that: mail clients find
them as if they had never been gone. With --as-new they come as new mail, at the end of their folder; with --into,
at the end of another folder, and then whatever is elsewhere counts for nothing. Flags are those of the moment;
--undelete leaves \Deleted out, which a client had set before it expunged.

--dry-run tells what would be done. Run it where the LUN is active; a dry run goes at any replica.`

// restoreFlags are those of `lun restore`.
type restoreFlags struct {
	runDir, output string
	request        mailroles.RestoreRequest
	at             string
	keep           bool
}

// newLUNRestore makes `lun restore`.
func newLUNRestore(e env) *cobra.Command {
	f := &restoreFlags{}
	cmd := &cobra.Command{
		Use:   "restore LUN MAILBOX",
		Short: "Put back a mailbox, a folder or one message from a snapshot, a time or an operation",
		Long:  restoreLong,
		Example: `  anycastle lun restore lun-east alice@example.org --snapshot 20261129T160000Z-48213 --dry-run
  anycastle lun restore lun-east alice@example.org --folder INBOX --uid 17 --snapshot 20261129T160000Z-48213
  anycastle lun restore lun-east alice@example.org --folder Work --at 2026-11-29T14:00:00Z --into Restored`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.request.LUN, f.request.Mailbox, f.request.By = args[0], args[1], orderedBy()
			if err := f.check(); err != nil {
				return usageError{err}
			}
			var a mailroles.RestoreAnswer
			if err := postLong(cmd.Context(), f.runDir, "/v1/lun-restore", f.request, &a); err != nil {
				return err
			}
			return f.tell(e.stdout, a)
		},
	}
	r := &f.request
	cmd.Flags().StringVar(&r.Snapshot, "snapshot", "", "go back to a snapshot, by its id")
	cmd.Flags().StringVar(&f.at, "at", "", "go back to a time, as in 2026-11-29T14:00:00Z, or so long ago, as in 90m")
	cmd.Flags().Uint64Var(&r.Index, "operation", 0, "go back to where that operation of the log was the last")
	cmd.Flags().StringVar(&r.Folder, "folder", "", "only that folder, as it was called then")
	cmd.Flags().Uint32Var(&r.UID, "uid", 0, "only the message of that UID in the folder")
	cmd.Flags().StringVar(&r.ID, "message-id", "", "only messages of that Message-ID")
	cmd.Flags().BoolVar(&f.keep, "keep-uids", false, "give messages the UIDs that they had; so it is unless another flag says otherwise")
	cmd.Flags().BoolVar(&r.AsNew, "as-new", false, "give messages new UIDs, at the end of their folder")
	cmd.Flags().StringVar(&r.Into, "into", "", "give messages new UIDs, at the end of that folder")
	cmd.Flags().BoolVar(&r.Undelete, "undelete", false, `leave out \Deleted`)
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, "only tell what would be done")
	cmd.Flags().StringVar(&f.runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "table or json")
	return cmd
}

// check reads the time, and refuses flags that do not go together.
func (f *restoreFlags) check() error {
	r := &f.request
	if err := checkOutput(f.output); err != nil {
		return err
	}
	if f.at != "" {
		at, err := time.Parse(time.RFC3339, f.at)
		if ago, aerr := time.ParseDuration(f.at); err != nil && aerr == nil && ago > 0 {
			at, err = time.Now().Add(-ago), nil
		}
		if err != nil {
			return fmt.Errorf("--at %s: want a time such as 2026-11-29T14:00:00Z, or so long ago, such as 90m", f.at)
		}
		r.Time = at
	}
	points := 0
	for _, set := range []bool{r.Snapshot != "", f.at != "", r.Index > 0} {
		if set {
			points++
		}
	}
	switch {
	case points != 1:
		return errors.New("say to what moment: one of --snapshot, --at and --operation")
	case f.keep && (r.AsNew || r.Into != ""):
		return errors.New("--keep-uids goes with neither --as-new nor --into")
	case r.UID > 0 && r.Folder == "":
		return errors.New("--uid says nothing without --folder")
	}
	return nil
}

// tell lays out what was done, or would be. Messages that could not be put back are an error.
func (f *restoreFlags) tell(out io.Writer, a mailroles.RestoreAnswer) error {
	var failed error
	if a.Done != nil && len(a.Done.Failed) > 0 {
		failed = fmt.Errorf("%d messages could not be put back", len(a.Done.Failed))
	}
	if f.output == "json" {
		if a.Plan != nil {
			return writeJSON(out, a.Plan)
		}
		return errors.Join(writeJSON(out, a.Done), failed)
	}
	if a.Plan != nil {
		return tellPlan(out, *a.Plan)
	}
	d := a.Done
	for _, note := range d.Notes {
		fmt.Fprintln(out, "note:", note)
	}
	for _, m := range d.Failed {
		fmt.Fprintf(out, "not put back: UID %d of %s: %s\n", m.UID, m.Folder, m.Why)
	}
	fmt.Fprintf(out, "%d messages of %d bytes put back, %d folders; left alone: %d where they were, %d that moved\n",
		d.Put, d.Bytes, d.Folders, d.There, d.Moved)
	return failed
}

func tellPlan(out io.Writer, p store.RestorePlan) error {
	for _, note := range p.Notes {
		fmt.Fprintln(out, "note:", note)
	}
	for _, folder := range p.Folders {
		how := "a new UIDVALIDITY"
		if folder.Validity > 0 {
			how = fmt.Sprintf("its UIDVALIDITY %d", folder.Validity)
		}
		fmt.Fprintf(out, "folder %s comes back as %s, with %s\n", folder.Was, folder.Name, how)
	}
	if len(p.Messages) > 0 {
		head := []string{"FOLDER", "UID", "WAS IN", "UID", "DATE", "BYTES", "FLAGS", "BODY", "SUBJECT"}
		err := writeTable(out, head, p.Messages, one(func(m store.RestoreMessage) []string {
			uid := "new"
			if m.UID > 0 {
				uid = strconv.FormatUint(uint64(m.UID), 10)
			}
			return []string{
				m.Folder, uid, m.WasIn, strconv.FormatUint(uint64(m.WasUID), 10), m.Date.UTC().Format(time.RFC3339),
				strconv.FormatInt(m.Size, 10), m.Marks, m.Body, cmp.Or(m.Subject, "-"),
			}
		}))
		if err != nil {
			return err
		}
	}
	from := cmp.Or(p.Snapshot, "no snapshot")
	_, err := fmt.Fprintf(out, "dry run, from %s up to operation %d: %d messages of %d bytes and %d folders would be put back, "+
		"%d bodies of them from other replicas; left alone: %d where they were, %d that moved\n",
		from, p.Index, len(p.Messages), p.Bytes, len(p.Folders), p.Lacking, p.There, p.Moved)
	return err
}
