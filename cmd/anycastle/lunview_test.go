package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/internal/mtlstest"
	"anycastle/internal/proctest"
	"anycastle/mailroles"
	"anycastle/mailroles/store"
)

func TestLUNRows(t *testing.T) {
	now := time.Now()
	l := mailroles.LUNState{Name: "lun-east", Path: "/srv/lun-east", Status: store.Status{
		Mailboxes: 2, Messages: 5, Bytes: 1234, Index: 42, Checkpoint: 40, SavedAt: now.Add(-7 * time.Second),
		Stopped: "disk is gone", Unsaved: "disk is full", Unread: "no such file", Early: 3,
		Check: store.Report{
			Begun: now.Add(-time.Minute), Ended: now.Add(-50 * time.Second),
			Failed: 1, Failures: []store.Failure{{Mailbox: "bob@example.org", Why: "permission denied"}},
			Mailboxes: 2, Replayed: 3, Adopted: 1, Lost: 1, Quarantined: 1, Torn: 17,
			Interrupted: []string{"20261129T160000Z-40"},
			Damage:      []store.Damage{{Segment: "0000000000000001.log", Offset: 96, From: 4, To: 5}},
			Missing:     []store.Missing{{Mailbox: "alice@example.org", Folder: "INBOX", UID: 7, File: "1.M2P3Q4.host,S=5,W=5"}},
		},
		Quarantine: []store.Quarantined{{File: "1.2.3-odd", From: "alice@example.org/cur/odd", Reason: "is no file", Bytes: 6}},
	}}
	want := [][]string{
		{"lun-east", "path", "/srv/lun-east"},
		{"lun-east", "stopped", "disk is gone"},
		{"lun-east", "not known", "no such file"},
		{"lun-east", "mailboxes", "2 of at most 1000"},
		{"lun-east", "messages", "5"},
		{"lun-east", "bytes", "1234"},
		{"lun-east", "last operation", "42"},
		{"lun-east", "checkpoint", "operation 40, 7s ago"},
		{"lun-east", "no checkpoint", "disk is full"},
		{"lun-east", "check", "2 mailboxes, 1 failed, ended 50s ago"},
		{"lun-east", "check found", "3 operations to do again, 1 messages of others, 1 without a file, 1 files for quarantine"},
		{"lun-east", "log torn", "17 bytes that were not acknowledged"},
		{"lun-east", "no snapshot", "20261129T160000Z-40 was interrupted"},
		{"lun-east", "expunged early", "3 bodies of expunged messages were removed before their time, for room"},
		{"lun-east", "failed", "bob@example.org: permission denied"},
		{"lun-east", "log damaged", "0000000000000001.log at byte 96, operations 4 to 5 are lost"},
		{"lun-east", "missing", "alice@example.org INBOX UID 7: 1.M2P3Q4.host,S=5,W=5"},
		{"lun-east", "quarantine", "1.2.3-odd from alice@example.org/cur/odd, 6 bytes: is no file"},
	}
	if diff := cmp.Diff(want, lunRows(l)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range strings.Fields("name path mailboxes messages bytes index checkpoint saved_at quarantine check") {
		if _, ok := keys[key]; !ok {
			t.Errorf("JSON has no %s", key)
		}
	}
}

const storeNodeText = `mail:
  directory: DIR/mailboxes.yml
  tls: {cert: CERT, key: KEY, ca: CA}
  luns:
    - {name: lun-east, lmtp: 127.0.0.1:1, imap: 127.0.0.1:1}
  store: {lun: lun-east, path: DIR/lun, lmtp_listen: "127.0.0.1:0", imap_listen: "127.0.0.2:0"}
`

// TestShowLUN asks a store that runs about a mailbox into which somebody put a directory.
func TestShowLUN(t *testing.T) {
	n := &mailNode{t: t, dir: t.TempDir()}
	n.file = filepath.Join(n.dir, "node.yml")
	if err := os.MkdirAll(filepath.Join(n.dir, "lun/alice@example.org/cur/odd"), 0o700); err != nil {
		t.Fatal(err)
	}
	list := n.startStore()
	if l := list[0]; l.Name != "lun-east" || l.Mailboxes != 1 || l.Index != 1 || len(l.Quarantine) != 1 {
		t.Errorf("the LUN is %+v", l)
	}
	table := n.command(0, "", "show", "lun", "--run-dir", n.dir)
	n.match(table, `lun-east +quarantine +\S+ from alice@example.org/cur/odd, \d+ bytes: is no file`)
	n.command(1, "", "show", "lun", "lun-west", "--run-dir", n.dir)
}

// startStore runs a store in this process until the test ends, and gives what it says of its LUN once it has checked it.
func (n *mailNode) startStore() (list []mailroles.LUNState) {
	n.t.Helper()
	f := mtlstest.NewCA(n.t).Node(n.t, "node")
	n.write("node.yml", strings.NewReplacer("DIR", n.dir, "CERT", f.Cert, "KEY", f.Key, "CA", f.CA).Replace(storeNodeText))
	n.write("mailboxes.yml", "mailboxes: []\n")
	log := &proctest.Transcript{}
	ctx, cancel := context.WithCancel(n.t.Context())
	var role sync.WaitGroup
	role.Go(func() {
		e := env{strings.NewReader(""), log, log}
		if code := run(ctx, e, []string{"mail", "store", "-c", n.file, "--run-dir", n.dir}); code != 0 {
			n.t.Errorf("the role ends with %d:\n%s", code, log)
		}
	})
	n.t.Cleanup(func() { cancel(); role.Wait() })
	n.until("the check to end", func() bool {
		code, out, _ := n.try("", "show", "lun", "lun-east", "-o", "json", "--run-dir", n.dir)
		return code == 0 && json.Unmarshal([]byte(out), &list) == nil && len(list) == 1 && !list[0].Check.Ended.IsZero()
	})
	return list
}
