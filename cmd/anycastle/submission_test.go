package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"anycastle/internal/netnstest"
	"anycastle/mailroles/directory"
)

const startSubmission = `mail:
  hostname: mx1.example.org
  directory: DIR/mailboxes.yml
  tls: TLS
  luns:
    - {name: lun-east, lmtp: 198.51.100.9:2424, imap: 198.51.100.9:1993, queue: 198.51.100.9:2425}
  submission: {messages_per_hour: 100}
`

// TestReloadOfSubmission changes the node file of a role that runs.
func TestReloadOfSubmission(t *testing.T) {
	netnstest.Root(t)
	h := newBareHost(t, startSubmission)
	hash, err := directory.HashPassword("secret")
	h.do(err)
	boxes := "mailboxes:\n  - {address: a@example.org, password: '" + hash + "', lun: lun-east}\n"
	h.do(os.WriteFile(filepath.Join(h.dir, "mailboxes.yml"), []byte(boxes), 0o600))
	p := h.start("mail submission", "", "", "run", nil)
	p.said(t, "msg=started role=submission")
	for _, step := range []struct{ old, new, said string }{
		{"messages_per_hour: 100", "messages_per_hour: 50", "msg=reloaded role=submission"},
		{"hostname: mx1", "hostname: mx2", "only dkim and messages_per_hour of submission can change while it runs; restart the role"},
		{"messages_per_hour: 50", "dkim: {require: true}", "mail.submission.dkim.require: no message could be sent"},
	} {
		text, err := os.ReadFile(h.file)
		h.do(err)
		changed := strings.Replace(string(text), step.old, step.new, 1)
		if changed == string(text) {
			t.Fatalf("%q is not in the file", step.old)
		}
		h.do(os.WriteFile(h.file, []byte(changed), 0o600))
		h.do(p.Process.Signal(syscall.SIGHUP))
		p.said(t, step.said)
	}
	h.do(p.Process.Signal(syscall.SIGTERM))
	if err := <-p.ended; err != nil {
		t.Errorf("it ended with %v: %s", err, &p.stderr)
	}
}
