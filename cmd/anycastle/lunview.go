package main

import (
	"fmt"

	"anycastle/mailroles"

	"github.com/spf13/cobra"
)

// lunRoles are those that know LUNs.
var lunRoles = []string{"store", "witness"}

func addLUNView(cmd *cobra.Command, e env, f *showFlags) {
	addView(cmd, e, f, view[mailroles.LUNState]{
		noun: "lun", short: "What a store keeps, its replicas, and what its start-up check found", roles: lunRoles,
		head: []string{"LUN", "WHAT", "VALUE"},
		rows: lunRows,
	})
}

// lunRows gives a row for each thing that is known of a LUN, and for each file in quarantine.
func lunRows(l mailroles.LUNState) [][]string {
	var rows [][]string
	row := func(what, format string, args ...any) {
		rows = append(rows, []string{l.Name, what, fmt.Sprintf(format, args...)})
	}
	row("path", "%s", l.Path)
	if l.Replica != nil {
		replicaRows(l.Replica, row)
		if l.Check.Begun.IsZero() { // a witness, or a store that is not open
			return rows
		}
	}
	if l.Stopped != "" {
		row("stopped", "%s", l.Stopped)
	}
	if l.Unread != "" {
		row("not known", "%s", l.Unread)
	}
	row("mailboxes", "%d of at most 1000", l.Mailboxes)
	row("messages", "%d", l.Messages)
	row("bytes", "%d", l.Bytes)
	row("last operation", "%d", l.Index)
	if l.SavedAt.IsZero() {
		row("checkpoint", "none yet")
	} else {
		row("checkpoint", "operation %d, %s ago", l.Checkpoint, ago(l.SavedAt))
	}
	if l.Unsaved != "" {
		row("no checkpoint", "%s", l.Unsaved)
	}
	c := l.Check
	if c.Ended.IsZero() {
		row("check", "%d mailboxes so far, %d failed, begun %s ago", c.Mailboxes, c.Failed, ago(c.Begun))
	} else {
		row("check", "%d mailboxes, %d failed, ended %s ago", c.Mailboxes, c.Failed, ago(c.Ended))
	}
	row("check found", "%d operations to do again, %d messages of others, %d without a file, %d files for quarantine",
		c.Replayed, c.Adopted, c.Lost, c.Quarantined)
	if c.Torn > 0 {
		row("log torn", "%d bytes that were not acknowledged", c.Torn)
	}
	if c.Odd > 0 {
		row("log odd", "%d records or operations that do not fit", c.Odd)
	}
	for _, id := range c.Interrupted {
		row("no snapshot", "%s was interrupted", id)
	}
	if l.Early > 0 {
		row("expunged early", "%d bodies of expunged messages were removed before their time, for room", l.Early)
	}
	for _, f := range c.Failures {
		row("failed", "%s: %s", f.Mailbox, f.Why)
	}
	for _, d := range c.Damage {
		row("log damaged", "%s at byte %d, operations %d to %d are lost", d.Segment, d.Offset, d.From, d.To)
	}
	for _, m := range c.Missing {
		row("missing", "%s %s UID %d: %s", m.Mailbox, m.Folder, m.UID, m.File)
	}
	for _, q := range l.Quarantine {
		row("quarantine", "%s from %s, %d bytes: %s", q.File, q.From, q.Bytes, q.Reason)
	}
	return rows
}
