package mailtest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"anycastle/internal/proctest"
)

const readProgram = `
import imaplib, json, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
c = imaplib.IMAP4_SSL("mx.example.org", 993, ssl_context=context)
c.login(sys.argv[2], sys.argv[3])
c.select("INBOX", readonly=True)
ok, found = c.uid("SEARCH", "ALL")
out = []
for uid in found[0].split():
    ok, data = c.uid("FETCH", uid, "(BODY.PEEK[])")
    out.append(data[0][1].decode("latin-1"))
c.logout()
print(json.dumps(out))
`

// read gives all messages of a user's INBOX, as Python's imaplib reads them.
func (s *site) read(user string) []string {
	s.t.Helper()
	var list []string
	proctest.Check(s.t, json.Unmarshal([]byte(s.python(readProgram, s.tls.CA, user, password)), &list))
	for i, text := range list {
		raw := make([]byte, 0, len(text))
		for _, r := range text {
			raw = append(raw, byte(r)) // what was read as Latin-1
		}
		list[i] = string(raw)
	}
	return list
}

// imap has curl do something with alice's mail.
func (s *site) imap(path string, more ...string) string {
	s.t.Helper()
	argv := []string{"curl", "-sS", "--cacert", s.tls.CA, "imaps://" + host + path, "-u", alice + ":" + password}
	return s.must(append(argv, more...)...)
}

// send brings messages into a mailbox over SMTP.
func (s *site) send(to string, subjects ...string) {
	s.t.Helper()
	for _, subject := range subjects {
		s.must("curl", "-sS", "smtp://"+host, "--mail-from", stranger, "--mail-rcpt", to, "-T", s.write("mail", text(subject)))
	}
}

const imaplibProgram = `
import imaplib, ssl, sys, time
context = ssl.create_default_context(cafile=sys.argv[1])
c = imaplib.IMAP4("mx.example.org", 143)
c.starttls(ssl_context=context)
c.login("alice@example.org", sys.argv[2])
for cap in ("IMAP4REV1", "IDLE", "UIDPLUS", "MOVE", "NAMESPACE"):
    assert cap in c.capabilities or cap in c.capability()[1][0].decode().upper().split(), (cap, c.capabilities)
def ok(reply):
    assert reply[0] == "OK", reply
    return reply[1]
ok(c.create("Work"))
ok(c.subscribe("Work"))
ok(c.append("Work", "(\\Seen \\Flagged)", '"01-Jan-2020 10:00:00 +0000"', b"Subject: one\r\n\r\nfirst\r\n"))
ok(c.append("Work", None, None, b"Subject: two\r\n\r\nsecond\r\n"))
assert ok(c.select("Work"))[0] == b"2"
assert ok(c.uid("SEARCH", "UNSEEN"))[0] == b"2"
assert ok(c.uid("SEARCH", "SUBJECT", "one"))[0] == b"1"
ok(c.uid("STORE", "2", "+FLAGS", "(\\Answered)"))
data = ok(c.uid("FETCH", "1:*", "(FLAGS INTERNALDATE RFC822.SIZE BODY[TEXT])"))
assert b"first" in data[0][1] and b"1-Jan-2020 10:00:00 +0000" in data[0][0], data
ok(c.uid("COPY", "1", "INBOX"))
ok(c.uid("MOVE", "2", "INBOX")) if hasattr(c, "move") else ok(c._simple_command("UID", "MOVE", "2", "INBOX"))
assert ok(c.select("INBOX"))[0] == b"2"
ok(c.store("1", "+FLAGS", "(\\Deleted)"))
ok(c.expunge())
assert ok(c.search(None, "ALL"))[0] == b"1"
ok(c.rename("Work", "Done"))
assert any(b"Done" in f for f in ok(c.list()))
ok(c.delete("Done"))
ok(c.select("INBOX", readonly=True))
reply = c.store("1", "+FLAGS", "(\\Deleted)")
assert reply[0] == "NO", reply
c.logout()
`

func TestImaplib(t *testing.T) {
	s := newSite(t)
	s.start()
	s.python("import imaplib\nimaplib.Commands['MOVE'] = ('SELECTED',)\n"+imaplibProgram, s.tls.CA, password)
}

func TestCurlReads(t *testing.T) {
	s := newSite(t)
	s.start()
	s.send(alice, "first", "second")
	for i, want := range []string{"first", "second"} {
		uid := string(rune('1' + i))
		got := s.imap("/INBOX;UID=" + uid)
		if !strings.HasSuffix(got, text(want)) {
			t.Errorf("UID %s is %q, want %q at its end", uid, got, text(want))
		}
	}
	said, err := s.try("curl", "-sS", "--cacert", s.tls.CA, "imaps://"+host+"/INBOX", "-u", alice+":wrong")
	if err == nil {
		t.Errorf("curl logs in with a wrong password: %s", said)
	}
}

const mbsyncConfig = `
IMAPStore far
Host mx.example.org
User alice@example.org
Pass correct-horse-battery
SSLType IMAPS
CertificateFile CA

MaildirStore near
SubFolders Maildir++
Inbox HOME/mail/

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
Sync All
SyncState *
`

// TestMbsync syncs both ways twice: changes of both sides arrive, and then there is no difference.
func TestMbsync(t *testing.T) {
	s := newSite(t)
	s.start()
	s.send(alice, "one", "two", "three")
	home := s.path("home")
	rc := s.write("mbsyncrc", strings.NewReplacer("CA", s.tls.CA, "HOME", home).Replace(mbsyncConfig))
	proctest.Check(t, os.MkdirAll(filepath.Join(home, "mail"), 0o700))
	sync := func() string { return s.must("mbsync", "-V", "-c", rc, "-a") }
	sync()
	near, err := filepath.Glob(filepath.Join(home, "mail", "new", "*"))
	proctest.Check(t, err)
	if len(near) != 3 {
		t.Fatalf("mbsync brought %d messages, want 3", len(near))
	}
	// the near side flags one, and gets a folder with a message; the far side gets another message
	flagged := filepath.Join(home, "mail", "cur", filepath.Base(near[0]))
	if !strings.Contains(flagged, ":2,") {
		flagged += ":2,"
	}
	proctest.Check(t, os.Rename(near[0], flagged+"FS"))
	for _, sub := range []string{"cur", "new", "tmp"} {
		proctest.Check(t, os.MkdirAll(filepath.Join(home, "mail", ".Gr&APwA3w-e", sub), 0o700))
	}
	made := filepath.Join(home, "mail", ".Gr&APwA3w-e", "new", "1.a.b")
	proctest.Check(t, os.WriteFile(made, []byte("Subject: near\n\nnear\n"), 0o600))
	s.send(alice, "four")
	sync()
	before := tree(t, filepath.Join(home, "mail"))
	sync()
	if after := tree(t, filepath.Join(home, "mail")); after != before {
		t.Errorf("a sync without changes changes the near side from\n%s\nto\n%s", before, after)
	}
	list := s.imap("/")
	if !strings.Contains(list, "Gr&APwA3w-e") {
		t.Errorf("the folder that mbsync made is not there: %s", list)
	}
	flags := s.imap("/INBOX", "-X", "SEARCH FLAGGED SEEN")
	if strings.TrimSpace(flags) == "* SEARCH" {
		t.Error("the flags that mbsync sent are not there")
	}
	// from nothing, a second near side gets the same
	other := s.path("other")
	rc = s.write("mbsyncrc2", strings.NewReplacer("CA", s.tls.CA, "HOME", other).Replace(mbsyncConfig))
	proctest.Check(t, os.MkdirAll(filepath.Join(other, "mail"), 0o700))
	s.must("mbsync", "-c", rc, "-a")
	if a, b := bodies(t, filepath.Join(home, "mail")), bodies(t, filepath.Join(other, "mail")); a != b {
		t.Errorf("a fresh copy differs: %s\nfrom %s", b, a)
	}
}

// tree lists the message files below a folder.
func tree(t *testing.T, root string) string {
	t.Helper()
	var list []string
	proctest.Check(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.HasPrefix(d.Name(), ".") {
			list = append(list, strings.TrimPrefix(path, root))
		}
		return err
	}))
	return strings.Join(list, "\n")
}

func TestMutt(t *testing.T) {
	s := newSite(t)
	s.start()
	s.send(alice, "for-mutt")
	rc := s.write("muttrc", strings.NewReplacer("CA", s.tls.CA, "PASSWORD", password).Replace(`
set folder=imaps://alice%40example.org@mx.example.org/
set imap_pass="PASSWORD"
set certificate_file=CA
set ssl_force_tls=yes
set ssl_verify_host=no
set spoolfile=+INBOX
set header_cache=
set copy=no
set wait_key=no
set confirmappend=no
set confirmcreate=no
set delete=yes
set move=no
push "<copy-message><kill-line>=Kept<enter><save-message><kill-line>=Moved<enter><sync-mailbox><quit>"
`))
	s.must("env", "TERM=xterm", "script", "-qec", "mutt -F "+rc, "/dev/null")
	for _, folder := range []string{"Kept", "Moved"} {
		got := s.imap("/" + folder + ";UID=1")
		if !strings.HasSuffix(got, text("for-mutt")) {
			t.Errorf("folder %s has %q", folder, got)
		}
	}
	if got := s.read(alice); len(got) != 0 {
		t.Errorf("INBOX still has %q", got)
	}
}

func TestFetchmail(t *testing.T) {
	s := newSite(t)
	s.start()
	s.send(alice, "a", "b")
	// to bob, over SMTP again
	rc := s.write("fetchmailrc", fmt.Sprintf("poll %s proto IMAP user %q pass %q is %q here ssl sslcertfile %q "+
		"smtphost 127.0.0.1 smtpname %s fetchall nokeep\n", host, alice, password, bob, s.tls.CA, bob))
	s.must("fetchmail", "-v", "-f", rc, "--pidfile", s.path("fetchmail.pid"))
	got := s.read(bob)
	if len(got) != 2 || !strings.Contains(got[0], "Hello, a.") || !strings.Contains(got[1], "Hello, b.") {
		t.Errorf("bob has %q, want a and b", got)
	}
	if left := s.read(alice); len(left) != 0 {
		t.Errorf("alice still has %d messages", len(left))
	}
}

// tuid is the field that mbsync adds to find a message again.
var tuid = regexp.MustCompile(`(?m)^X-TUID: .*\n`)

// bodies gives the texts of all messages below a folder, in order, whatever their names.
func bodies(t *testing.T, root string) string {
	t.Helper()
	var list []string
	for path := range strings.SplitSeq(tree(t, root), "\n") {
		if dir := filepath.Base(filepath.Dir(path)); dir != "new" && dir != "cur" {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(root, path))
		proctest.Check(t, err)
		list = append(list, filepath.Dir(filepath.Dir(path))+" "+tuid.ReplaceAllString(string(raw), ""))
	}
	slices.Sort(list)
	return strings.Join(list, "\n--\n")
}
