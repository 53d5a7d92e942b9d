package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/mtlstest"
	"anycastle/internal/porttest"
	"anycastle/internal/proctest"
)

// mailNode runs the smtp role of a node in this process, and asks it.
type mailNode struct {
	t         *testing.T
	dir, file string
}

const mailNodeText = `mail:
  hostname: mx1.example.org
  directory: DIR/mailboxes.yml
  tls: {cert: CERT, key: KEY, ca: CA}
  luns:
    - {name: lun-east, lmtp: 127.0.0.1:1, imap: 127.0.0.1:1}
  smtp: {listen: ["ADDR"], max_sessions: 10}
`

func newMailNode(t *testing.T) (*mailNode, *proctest.Transcript) {
	t.Helper()
	n := &mailNode{t: t, dir: t.TempDir()}
	n.file = filepath.Join(n.dir, "node.yml")
	f := mtlstest.NewCA(t).Node(t, "node")
	n.write("node.yml", strings.NewReplacer("DIR", n.dir, "CERT", f.Cert, "KEY", f.Key, "CA", f.CA, "ADDR", porttest.Free(t, "127.0.0.1").String()).Replace(mailNodeText))
	n.command(0, "user-secret\n", "mail", "user", "add", "alice@example.org", "--lun", "lun-east", "--quota", "1G", "-c", n.file, "--password-stdin")
	log := &proctest.Transcript{}
	ctx, cancel := context.WithCancel(t.Context())
	var role sync.WaitGroup
	role.Go(func() {
		if code := run(ctx, env{strings.NewReader(""), log, log}, []string{"mail", "smtp", "-c", n.file, "--run-dir", n.dir}); code != 0 {
			t.Errorf("the role ends with %d:\n%s", code, log)
		}
	})
	t.Cleanup(func() { cancel(); role.Wait() })
	n.until("the role to start", func() bool {
		code, _, _ := n.try("", "show", "directory", "--run-dir", n.dir)
		return code == 0
	})
	return n, log
}

func (n *mailNode) write(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *mailNode) try(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(n.t.Context(), env{strings.NewReader(stdin), &out, &errs}, args)
	return code, out.String(), errs.String()
}

func (n *mailNode) command(want int, stdin string, args ...string) string {
	n.t.Helper()
	code, out, errs := n.try(stdin, args...)
	if code != want {
		n.t.Fatalf("anycastle %s: exit %d, want %d: %s%s", strings.Join(args, " "), code, want, out, errs)
	}
	return out + errs
}

func (n *mailNode) until(what string, cond func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func (n *mailNode) match(text, want string) {
	n.t.Helper()
	if !regexp.MustCompile(want).MatchString(text) {
		n.t.Errorf("want %s in:\n%s", want, text)
	}
}

// A role reads what the command changes, by itself and when it is told to; it keeps what it has when that is wrong, and says so.
func TestRoleFollowsItsMailboxes(t *testing.T) {
	n, log := newMailNode(t)
	user := func(args ...string) {
		t.Helper()
		n.command(0, "another\n", append([]string{"mail", "user", "-c", n.file}, args...)...)
	}
	explain := func(args ...string) string {
		t.Helper()
		return n.command(0, "", append([]string{"explain", "mail", "--run-dir", n.dir}, args...)...)
	}
	n.match(explain("alice+x@example.org"), `(?s)alice\+x@example.org +mailbox +as a subaddress of alice@example.org; on LUN lun-east; quota 1G\n`+
		`verdict +accepted +it goes to one mailbox, on LUN lun-east`)
	n.match(explain("bob@example.org"), `verdict +refused +there is no such mailbox`)
	user("add", "bob@example.org", "--lun", "lun-east", "--password-stdin")
	user("group", "all@example.org", "alice@example.org", "bob@example.org", "--from", "members")
	n.until("the role to know the group", func() bool { return strings.Contains(explain("all@example.org"), "its own mailboxes may write to it") })
	n.match(explain("all@example.org"), `verdict +refused +a group on the way takes no mail from anyone but`)
	n.match(explain("all@example.org", "--from", "bob@example.org", "-o", "json"), `(?s)"depth": 1,\s+"kind": "mailbox".*"verdict": "accepted"`)
	n.match(n.command(0, "", "show", "directory", "--run-dir", n.dir), `mailboxes.yml +2 +0 +1 +\d+s +0 +-\n`)

	right, err := os.ReadFile(filepath.Join(n.dir, "mailboxes.yml"))
	if err != nil {
		t.Fatal(err)
	}
	n.write("mailboxes.yml", strings.Replace(string(right), "lun-east", "lun-west", 1))
	n.match(n.command(1, "", "reload", "smtp", "--run-dir", n.dir), `mailboxes.yml:\d+: mailboxes\[0\].lun: no LUN is called "lun-west"`)
	n.until("the role to see that the file is wrong", func() bool {
		return strings.Contains(n.command(0, "", "show", "directory", "--run-dir", n.dir, "-o", "json"), `no LUN is called \"lun-west\"`)
	})
	n.match(explain("bob@example.org"), "verdict +accepted")
	n.write("mailboxes.yml", string(right)+"aliases: [{address: info@example.org, to: [bob@example.org]}]\n")
	n.command(0, "", "reload", "smtp", "--run-dir", n.dir)
	n.match(explain("info@example.org"), "verdict +accepted")

	text, err := os.ReadFile(n.file)
	if err != nil {
		t.Fatal(err)
	}
	n.write("node.yml", strings.Replace(string(text), "max_sessions: 10", "max_sessions: 11", 1))
	n.match(n.command(1, "", "reload", "smtp", "--run-dir", n.dir), "only the mailboxes file is read while the role runs; restart the role")
	if said := log.String(); strings.Contains(said, "another") || strings.Contains(said, "user-secret") || strings.Contains(said, "argon2id") {
		t.Errorf("a secret is logged:\n%s", said)
	}
}

func TestExplainMailAsksAMailRole(t *testing.T) {
	code, _, errs := outcome(t, "explain", "mail", "a@example.org", "--run-dir", t.TempDir())
	if code != exitFailed || !strings.Contains(errs, "not running here") {
		t.Errorf("exit %d, says %q", code, errs)
	}
	for _, args := range [][]string{{"explain", "mail"}, {"explain", "mail", "a@example.org", "-o", "xml"}, {"mail", "user", "list", "-o", "xml"}, {"mail", "user", "alias", "a@b"}} {
		if code, _, errs := outcome(t, args...); code != exitUsage || errs == "" {
			t.Errorf("anycastle %s: exit %d, %s", fmt.Sprint(args), code, errs)
		}
	}
}
