package imapd

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCapabilities(t *testing.T) {
	s := newSite(t, nil)
	k := s.connect()
	k.write("a AUTHENTICATE EXTERNAL YWxpY2VAZXhhbXBsZS5vcmc=\r\n")
	const want = "CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE UIDPLUS MOVE UNSELECT CHILDREN " +
		"SPECIAL-USE LIST-EXTENDED LIST-STATUS STATUS=SIZE ESEARCH SEARCHRES BINARY APPENDLIMIT=100000"
	if got := k.expect("a "); got != "a OK ["+want+"] EXTERNAL authentication successful" {
		t.Errorf("login: %s", got)
	}
	if got := k.ask("b CAPABILITY", "b OK"); len(got) != 1 || got[0] != "* "+want {
		t.Errorf("capabilities are %q", got)
	}
	k.ask("c NAMESPACE", "c OK")
	k.ask("d ENABLE IMAP4rev2 CONDSTORE", "d OK")
	k.ask("e SELECT INBOX", "e OK")
	k.ask("f UNSELECT", "f OK")
	k.ask("g FETCH 1 UID", "g BAD")
}

func TestList(t *testing.T) {
	s := newSite(t, nil)
	for _, name := range []string{"Sent", "sent items", "Spam", "a.b.c", "a.b.d", "Entwürfe", "R&D", "Archives", "Drafts.old"} {
		if err := s.box.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"INBOX", "a.b.c", "gone.x"} {
		if err := s.box.Subscribe(name, true); err != nil {
			t.Fatal(err)
		}
	}
	s.put(hello)
	k := s.login()
	for _, tc := range []struct {
		command string
		want    []string
	}{
		{`LIST "" ""`, []string{`(\Noselect) "." ""`}},
		{`LIST "" inbox`, []string{`(\HasNoChildren) "." INBOX`}},
		{`LIST "" %`, []string{
			`(\HasNoChildren) "." INBOX`, `(\HasNoChildren \Archive) "." "Archives"`, `(\Noselect \HasChildren) "." "Drafts"`,
			`(\HasNoChildren) "." "Entw&APw-rfe"`, `(\HasNoChildren) "." "R&-D"`, `(\HasNoChildren \Sent) "." "Sent"`,
			`(\HasNoChildren \Junk) "." "Spam"`, `(\Noselect \HasChildren) "." "a"`, `(\HasNoChildren) "." "sent items"`,
		}},
		{`LIST "" a*`, []string{`(\HasNoChildren) "." "a.b.c"`, `(\HasNoChildren) "." "a.b.d"`}},
		{`LIST a %.%`, []string{`(\HasNoChildren) "." "a.b.c"`, `(\HasNoChildren) "." "a.b.d"`}},
		{`LIST "" a.%`, []string{`(\Noselect \HasChildren) "." "a.b"`}},
		{`LSUB "" *`, []string{`() "." INBOX`, `() "." "a.b.c"`, `() "." "gone.x"`}},
		{`LSUB "" %`, []string{`() "." INBOX`, `(\Noselect) "." "a"`, `(\Noselect) "." "gone"`}},
		{`LIST (SUBSCRIBED) "" *`, []string{
			`(\HasNoChildren \Subscribed) "." INBOX`, `(\HasNoChildren \Subscribed) "." "a.b.c"`,
			`(\NonExistent \HasNoChildren \Subscribed) "." "gone.x"`,
		}},
		{`LIST (SUBSCRIBED) "" %`, []string{`(\HasNoChildren \Subscribed) "." INBOX`}},
		{`LIST (SUBSCRIBED RECURSIVEMATCH) "" %`, []string{
			`(\HasNoChildren \Subscribed) "." INBOX`, `(\NonExistent \HasChildren) "." "a" (CHILDINFO ("SUBSCRIBED"))`,
			`(\NonExistent \HasNoChildren) "." "gone" (CHILDINFO ("SUBSCRIBED"))`,
		}},
		{`LIST "" (INBOX a.b.%) RETURN (SUBSCRIBED CHILDREN)`, []string{
			`(\HasNoChildren \Subscribed) "." INBOX`, `(\HasNoChildren \Subscribed) "." "a.b.c"`, `(\HasNoChildren) "." "a.b.d"`,
		}},
		{`LIST (SPECIAL-USE) "" *`, []string{
			`(\HasNoChildren \Archive) "." "Archives"`, `(\HasNoChildren \Sent) "." "Sent"`, `(\HasNoChildren \Junk) "." "Spam"`,
		}},
		{`LIST "" (INBOX Spam) RETURN (STATUS (MESSAGES SIZE) SPECIAL-USE)`, []string{
			`(\HasNoChildren) "." INBOX`, `STATUS INBOX (MESSAGES 1 SIZE 26)`,
			`(\HasNoChildren \Junk) "." "Spam"`, `STATUS "Spam" (MESSAGES 0 SIZE 0)`,
		}},
	} {
		var got []string
		for _, line := range k.ask("a "+tc.command, "a OK") {
			for _, word := range []string{"* LIST ", "* LSUB ", "* "} {
				if rest, ok := strings.CutPrefix(line, word); ok {
					got = append(got, rest)
					break
				}
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", tc.command, diff)
		}
	}
	k.ask(`b CREATE Trash (USE (\Trash))`, "b OK")
	k.ask(`c CREATE Bin (USE (\Trash))`, "c NO [USEATTR]")
	k.ask("d ENABLE IMAP4rev2", "d OK")
	if got := k.ask("e SELECT \"Entwürfe\"", "e OK"); !strings.Contains(strings.Join(got, "|"), `* LIST () "." "Entwürfe"`) {
		t.Errorf("select: %q", got)
	}
	for command, want := range map[string]string{
		"f CREATE Spam": "f NO [ALREADYEXISTS]", "f DELETE INBOX": "f NO [CANNOT]", "f DELETE x": "f NO [NONEXISTENT]",
		"f RENAME x y": "f NO [NONEXISTENT]", "f CREATE a/b": "f NO [CANNOT]",
	} {
		k.ask(command, want)
	}
}
