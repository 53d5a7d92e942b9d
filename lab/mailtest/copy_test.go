package mailtest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// workProgram leaves folders, messages and marks of all kinds in alice's mailbox, which has five messages: CA PASSWORD.
const workProgram = `
import imaplib, ssl, sys
imaplib.Commands["MOVE"] = ("SELECTED",)
context = ssl.create_default_context(cafile=sys.argv[1])
c = imaplib.IMAP4_SSL("mx.example.org", 993, ssl_context=context)
c.login("alice@example.org", sys.argv[2])
def ok(reply):
    assert reply[0] == "OK", reply
    return reply[1]
for folder in ("Work", "Work.Deep.Down", '"Gr&APwA3w-e"', "Old", "Gone", '"with space"'):
    ok(c.create(folder))
for folder in ("INBOX", "Work.Deep.Down", '"Gr&APwA3w-e"', '"with space"'):
    ok(c.subscribe(folder))
date = '"01-Feb-2024 03:04:05 +0000"'
for n in range(4):
    ok(c.append("Work", r"(\Seen \Draft $Forwarded)", date, b"Subject: %d\r\n\r\nBody %d.\r\n" % (n, n)))
ok(c.append('"Gr&APwA3w-e"', r"(\Answered)", date, "Subject: 8bit\r\n\r\ngr\u00fc\u00dfe\r\n.\r\n\r\n".encode()))
ok(c.append('"with space"', None, date, b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 50000))
assert ok(c.select("INBOX"))[0] == b"5"
ok(c.uid("STORE", "1", "+FLAGS", r"(\Seen \Flagged $Label1)"))
ok(c.uid("STORE", "2", "+FLAGS", r"(\Answered NonJunk)"))
ok(c.uid("COPY", "1:2", "Work.Deep.Down"))
ok(c.uid("MOVE", "3", "Old"))
ok(c.uid("STORE", "4", "+FLAGS", r"(\Deleted)"))
ok(c.expunge())
ok(c.uid("STORE", "5", "+FLAGS", r"(\Deleted)"))
ok(c.select("Work"))
ok(c.uid("STORE", "2", "-FLAGS", r"(\Seen $Forwarded)"))
ok(c.uid("STORE", "4", "+FLAGS", r"(\Deleted)"))
ok(c.expunge())
ok(c.rename("Old", "Renamed"))
ok(c.delete("Gone"))
ok(c.unselect())
c.logout()
`

// dumpProgram tells all that a client sees of alice's mailbox: CA PASSWORD PORT. Parents that hold nothing are left out, and
// \Recent, which is a matter of who looked first.
const dumpProgram = `
import hashlib, imaplib, re, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
c = imaplib.IMAP4_SSL("mx.example.org", int(sys.argv[3]), ssl_context=context)
c.login("alice@example.org", sys.argv[2])
def ok(reply):
    assert reply[0] == "OK", reply
    return reply[1]
def names(lines):
    for line in lines:
        attrs, name = re.fullmatch(rb'\(([^)]*)\) (?:"[^"]*"|NIL) (.*)', line).groups()
        if b"noselect" not in attrs.lower() and b"nonexistent" not in attrs.lower():
            yield name.strip(b'"').decode()
print("subscribed", sorted(names(ok(c.lsub()))))
for name in sorted(names(ok(c.list()))):
    count = int(ok(c.select('"%s"' % name, readonly=True))[0])
    print(name, count, "messages", "UIDVALIDITY", c.response("UIDVALIDITY")[1], "UIDNEXT", c.response("UIDNEXT")[1])
    if count == 0:
        continue
    got = ok(c.fetch("1:*", "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"))
    for item in got:
        if not isinstance(item, tuple):
            continue
        head, body = item
        head += got[got.index(item) + 1]
        uid = re.search(rb"UID (\d+)", head)[1].decode()
        flags = sorted(f for f in re.search(rb"FLAGS \(([^)]*)\)", head)[1].decode().split() if f != "\\Recent")
        size = re.search(rb"RFC822.SIZE (\d+)", head)[1].decode()
        date = imaplib.Internaldate2tuple(head)
        print("  UID", uid, flags, size, tuple(date)[:6], len(body), hashlib.sha256(body).hexdigest(), body[:80])
c.logout()
`

// TestDovecotReadsTheTree has Debian's Dovecot serve a copy of a LUN on which clients have worked: it shows what we showed.
func TestDovecotReadsTheTree(t *testing.T) {
	s := newSite(t)
	s.start()
	s.send(alice, "a", "b", "c", "d", "e")
	s.python(workProgram, s.tls.CA, password)
	s.imap("/INBOX", "-T", s.write("mail", text("curl")))
	ours := s.python(dumpProgram, s.tls.CA, password, "993")
	for _, part := range []string{
		"\nGr&APwA3w-e 1 messages", "\nRenamed 1 messages", "\nWork 3 messages", "\nWork.Deep.Down 2 messages", "\nINBOX 4 messages",
		"$Label1", "NonJunk", "$Forwarded", "\\\\Flagged", "\\\\Draft", " 600018 ", "(2024, 2, 1, ",
	} {
		if !strings.Contains(ours, part) {
			t.Errorf("there is no %q to be compared in\n%s", part, ours)
		}
	}
	s.roles["imap"].Stop()
	s.roles["store-east"].Stop()
	s.dovecot(s.path("east"))
	theirs := s.python(dumpProgram, s.tls.CA, password, "2993")
	if diff := cmp.Diff(strings.Split(ours, "\n"), strings.Split(theirs, "\n")); diff != "" {
		t.Errorf("Dovecot shows the copy as something else (- ours, + its):\n%s", diff)
	}
}
