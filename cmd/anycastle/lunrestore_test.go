package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"anycastle/mailroles/store"
)

// TestLUNRestore takes a snapshot of a store that runs, with a folder that somebody put there, and restores as long as nothing
// is lost, and to moments that are none.
func TestLUNRestore(t *testing.T) {
	n := &mailNode{t: t, dir: t.TempDir()}
	n.file = filepath.Join(n.dir, "node.yml")
	cur := filepath.Join(n.dir, "lun/alice@example.org/cur")
	if err := os.MkdirAll(cur, 0o700); err != nil {
		t.Fatal(err)
	}
	n.write("lun/alice@example.org/cur/1.x:2,S", "Subject: =?utf-8?q?gr=C3=BCn?=\n\ntext\n")
	n.startStore()
	lun := func(code int, args ...string) string {
		return n.command(code, "", append(append([]string{"lun"}, args...), "--run-dir", n.dir)...)
	}
	out := lun(0, "snapshot", "lun-east")
	id := regexp.MustCompile(`lun-east: snapshot (\S+) at operation 2, 1 mailboxes, 1 messages, \d+ bytes, by \w+ in`).FindStringSubmatch(out)
	if id == nil {
		t.Fatalf("lun snapshot says %s", out)
	}
	n.match(n.command(0, "", "show", "snapshot", "--run-dir", n.dir), `lun-east +`+id[1]+` +2 `)
	n.match(lun(0, "restore", "lun-east", "alice@example.org", "--snapshot", id[1], "--dry-run"),
		`dry run, from `+id[1]+` up to operation 2: 0 messages .* left alone: 1 where they were`)
	n.match(lun(0, "restore", "lun-east", "alice@example.org", "--snapshot", id[1]), `^0 messages .* left alone: 1 where they were`)
	table := lun(0, "restore", "lun-east", "alice@example.org", "--operation", "2", "--into", "Other", "--dry-run")
	n.match(table, `Other +new +INBOX +1 +\S+ +\d+ +S +\w+ +grün`)
	n.match(lun(0, "restore", "lun-east", "alice@example.org", "--operation", "2", "--into", "Other"), `^1 messages .* 1 folders`)
	var done store.Restored
	text := lun(0, "restore", "lun-east", "alice@example.org", "--at", "1ms", "--folder", "inbox", "-o", "json")
	if err := json.Unmarshal([]byte(text), &done); err != nil || done.There != 1 || done.Put != 0 {
		t.Errorf("restore says %s, %v", text, err)
	}
	lun(1, "restore", "lun-east", "alice@example.org", "--snapshot", "20000101T000000Z-1")
	lun(1, "restore", "lun-east", "bob@example.org", "--snapshot", id[1])
	lun(1, "restore", "lun-west", "alice@example.org", "--snapshot", id[1])
	lun(2, "restore", "lun-east", "alice@example.org")
	lun(2, "restore", "lun-east", "alice@example.org", "--snapshot", id[1], "--uid", "3")
	lun(2, "restore", "lun-east", "alice@example.org", "--at", "yesterday")
	lun(2, "restore", "lun-east", "alice@example.org", "--at", "1h", "--as-new", "--keep-uids")
}
