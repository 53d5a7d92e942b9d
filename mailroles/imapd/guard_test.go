package imapd

import (
	"fmt"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var equateEmpty = cmpopts.EquateEmpty()

func appendOf(tag, text, wait string) string {
	return fmt.Sprintf("%s APPEND INBOX {%d%s}\r\n%s\r\n", tag, len(text), wait, text)
}

func TestAppendThatIsCutOffIsNotStored(t *testing.T) {
	s := newSite(t, nil)
	for _, wait := range []string{"", "+"} {
		for _, part := range []string{"", hello, "x"} {
			k := s.login()
			k.write(fmt.Sprintf("a APPEND INBOX {5000%s}\r\n", wait))
			if wait == "" {
				k.expect("+ ")
			}
			k.write(part)
			k.conn.Close()
			s.gone()
		}
	}
	// the whole message, but not the end of the command
	k := s.login()
	k.write(strings.TrimSuffix(appendOf("a", hello, "+"), "\r\n"))
	k.conn.Close()
	s.gone()
	if got := s.stored("INBOX"); len(got) != 0 {
		t.Errorf("INBOX holds %q", got)
	}
}

func TestLiteralsDoNotRunAsCommands(t *testing.T) {
	s := newSite(t, nil)
	const evil = "x CREATE smuggled\r\n"
	for _, tc := range []struct{ text, answer string }{
		{fmt.Sprintf("a APPEND INBOX {%d+}\r\n", maxSize+1) + evil, "* BYE [TOOBIG]"},
		{"a APPEND INBOX {99999999999999999999+}\r\n" + evil, "* BYE [TOOBIG]"},
		{"a LIST \"\" {5000000+}\r\n" + evil, "* BYE [TOOBIG]"},
		{"a NOOP " + strings.Repeat("x", maxCommand) + "{30+}\r\n" + evil, "* BYE [TOOBIG]"},
		// a client that waits is told, and sends something else
		{fmt.Sprintf("a APPEND INBOX {%d}\r\nz LOGOUT\r\n", maxSize+1), "a NO [TOOBIG]"},
		{"a LIST \"\" {5000000}\r\nz LOGOUT\r\n", "a NO [TOOBIG]"},
		// these are read, though nobody wants them
		{"a LIST \"\" {19+}\r\n" + evil + "\r\nz LOGOUT\r\n", "a NO [CANNOT]"},
		{"a NOOP {19+}\r\n" + evil + "\r\nz LOGOUT\r\n", "a NO [CANNOT]"},
		{"a NOOP {19+}\r\n" + evil + " {19+}\r\n" + evil + "\r\nz LOGOUT\r\n", "a NO [CANNOT]"},
		{"a NOOP {17+}\r\nx CREATE smuggled\r\nz LOGOUT\r\n", "a BAD"},
		{"a APPEND INBOX bad {19+}\r\n" + evil + "\r\nz LOGOUT\r\n", "a BAD"},
		{"a APPEND INBOX (\\Seen {19+}\r\n" + evil + "\r\nz LOGOUT\r\n", "a BAD"},
		{"a APPEND nowhere {19+}\r\n" + evil + "\r\nz LOGOUT\r\n", "a NO [TRYCREATE]"},
		// the library takes these for literals as well
		{"a LIST \"\" {19+} \r\n" + evil + "\r\nz LOGOUT\r\n", "a NO [CANNOT]"},
		{"a APPEND INBOX {19} \r\nz LOGOUT\r\n" + evil + "\r\nz LOGOUT\r\n", "+ "},
		{"a LIST \"\" {" + strings.Repeat("0", 30) + "19+}\r\n" + evil + "\r\nz LOGOUT\r\n", "a NO [CANNOT]"},
		{"a LIST \"\" {" + strings.Repeat("0", maxCommand) + "19+}\r\n" + evil, "* BYE [TOOBIG]"},
		{"a NOOP \x00{19+}\r\n" + evil, "* BYE [TOOBIG]"},
		{"(a NOOP {19+}\r\n" + evil, "* BYE [TOOBIG]"},
	} {
		t.Run(fmt.Sprintf("%.40q", tc.text), func(t *testing.T) {
			k := s.login()
			k.write(tc.text)
			if got := k.expect(tc.answer[:2]); !strings.HasPrefix(got, tc.answer) {
				t.Errorf("answer is %q, want %q", got, tc.answer)
			}
			k.ended()
			s.gone()
			folders, err := s.box.Folders()
			if err != nil || len(folders) != 1 {
				t.Errorf("folders are %q, %v", folders, err)
			}
			if got := s.stored("INBOX"); len(got) != 0 {
				t.Errorf("INBOX holds %q", got)
			}
		})
	}
}

// TestLiteralsWithoutEnd has a client refused in a command that goes on with one literal after the other. However many there
// are, they take no more stack, of which there is little here.
func TestLiteralsWithoutEnd(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(1 << 20))
	s := newSite(t, nil)
	k := s.login()
	k.write("a NOOP {2+}\r\n\r\n")
	for range 100 {
		k.write(strings.Repeat("{0+}\r\n", 500))
	}
	k.write("\r\nz LOGOUT\r\n")
	if got := k.expect("a "); !strings.HasPrefix(got, "a NO") {
		t.Errorf("answer is %q, want NO", got)
	}
	k.ended()
	s.gone()
}

func TestLiteralsInCommands(t *testing.T) {
	s := newSite(t, nil)
	k := s.login()
	k.write("a CREATE {5+}\r\n\"a\\&-\r\nb LIST \"\" {1}\r\n")
	k.expect("a OK")
	k.expect("+ ")
	k.write("*\r\n")
	k.expect(`* LIST (\HasNoChildren) "." "\"a\\&-"`)
	k.expect("b OK")
	k.write("c APPEND {5+}\r\nINBOX (\\Seen) {" + fmt.Sprint(len(hello)) + "}\r\n")
	k.expect("+ ")
	k.write(hello + "\r\n")
	k.expect("c OK")
	if got := s.stored("INBOX"); len(got) != 1 || got[0] != hello {
		t.Errorf("INBOX holds %q", got)
	}
	// beyond the library's 4,096 bytes
	long := strings.Repeat("y ", 5_000)
	k.ask("d SELECT INBOX", "d OK")
	k.write(fmt.Sprintf("e SEARCH SUBJECT {%d+}\r\n%s\r\n", len(long), long))
	if got := k.expect("e "); !strings.HasPrefix(got, "e OK") {
		t.Errorf("search for 10,000 bytes: %s", got)
	}
}

func TestAppendIsAnsweredWhateverComesBehindIt(t *testing.T) {
	s := newSite(t, nil)
	k := s.login()
	whole := strings.TrimSuffix(appendOf("a", hello, "+"), "\r\n")
	for _, tc := range []struct{ text, answer string }{
		{whole + " junk\r\n", "a BAD"},
		{whole + ")\r\n", "a BAD"},
		{whole + fmt.Sprintf(" {%d+}\r\n%s\r\n", len(hello), hello), "a BAD"},
		{whole + fmt.Sprintf(" (\\Seen) {%d}\r\n", len(hello)), "a BAD"},
		{fmt.Sprintf("a APPEND INBOX UTF8 (~{%d+}\r\n%s\r\n", len(hello), hello), "a BAD"},
	} {
		k.write(tc.text + "b NOOP\r\n")
		if got := k.until("b OK"); len(got) != 2 || !strings.HasPrefix(got[0], tc.answer) {
			t.Errorf("after %q: %q", tc.text, got)
		}
	}
	if got := s.stored("INBOX"); len(got) != 0 {
		t.Errorf("INBOX holds %q", got)
	}
	k.write(whole + " \r\n" + fmt.Sprintf("b APPEND INBOX UTF8 (~{%d+}\r\n%s)\r\nc APPEND INBOX ~{0+}\r\n\r\n", len(hello), hello))
	k.expect("a OK [APPENDUID")
	k.expect("b OK [APPENDUID")
	k.expect("c OK [APPENDUID")
	if diff := cmp.Diff([]string{hello, hello, ""}, s.stored("INBOX")); diff != "" {
		t.Errorf("INBOX: %s", diff)
	}
}

func TestExamineChangesNothing(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello, hello)
	k := s.selected()
	k.ask(`a STORE 1 +FLAGS.SILENT (\Deleted)`, "a OK")
	k.ask("b EXAMINE INBOX", "b OK [READ-ONLY]")
	k.ask(`c STORE 2 +FLAGS (\Flagged)`, "c NO [READ-ONLY]")
	k.ask("d EXPUNGE", "d NO [READ-ONLY]")
	k.ask("e UID EXPUNGE 1:*", "e NO [READ-ONLY]")
	k.ask("f MOVE 1 INBOX", "f NO [READ-ONLY]")
	k.ask("g FETCH 1:2 BODY[]", "g OK")
	k.ask("h FETCH 1:2 BINARY[1]", "h OK")
	k.ask("i CLOSE", "i OK")
	f, err := s.box.Folder("INBOX")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range f.Snapshot().Messages {
		got = append(got, m.Flags.String())
	}
	if diff := cmp.Diff([]string{"T", ""}, got); diff != "" {
		t.Errorf("flags: %s", diff)
	}
}

func TestWrongCommandsAreBad(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello)
	k := s.selected()
	for _, command := range []string{
		"FROBNICATE", "SELECT INBOX (CONDSTORE)", "UID FROB 1", "SEARCH FROB", "SEARCH SINCE yesterday", "UID SEARCH 1:x",
		"FETCH abc FLAGS", "UID FETCH 0 FLAGS", "SEARCH RETURN (FROB) ALL", "APPEND INBOX \"yesterday\" {0+}\r\n",
		"NOOP NOOP", "IDLE now", "LOGIN a b", "AUTHENTICATE EXTERNAL", "UNAUTHENTICATE", "COMPRESS DEFLATE",
		"SELECT \"INBOX", "", "NOOP \x00", "UID", "STORE 1 FROB (\\Seen)", strings.Repeat("(", 2000),
		"SEARCH " + strings.Repeat("(", 2000) + "ALL" + strings.Repeat(")", 2000),
	} {
		k.write("a " + command + "\r\n")
		if got := k.expect("a "); !strings.HasPrefix(got, "a BAD") {
			t.Errorf("%.50q: %s", command, got)
		}
	}
	for _, line := range []string{"", "a", "(x) NOOP", " NOOP", "+ NOOP", "\x01\x02 NOOP"} {
		k.write(line + "\r\n")
		k.expect(map[bool]string{true: "a BAD", false: "* BAD"}[line == "a"])
	}
	k.ask("n CREATE &x", "n NO [CANNOT]")
	k.ask("n STATUS &x (MESSAGES)", "n NO [CANNOT]")
	// the folder is still selected, and the session in step
	if got := k.ask("z FETCH 1 UID", "z OK"); len(got) != 1 {
		t.Errorf("after all: %q", got)
	}
}

func TestID(t *testing.T) {
	k := newSite(t, nil).login()
	k.write("a ID (\"name\" \"x (y)\")\r\nb ID NIL\r\nc ID ({4+}\r\nname {1+}\r\nx)\r\nd NOOP\r\n")
	got := k.until("d ")
	id := `* ID ("name" "anycastle")`
	want := []string{id, "a OK ID completed", id, "b OK ID completed", id, "c OK ID completed", "d OK NOOP completed"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLongCommands(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello, "Subject: other\r\n\r\n", hello)
	k := s.selected()
	k.ask("s SEARCH RETURN (SAVE) 2", "s OK")
	var b strings.Builder
	for n := 50_000; n > 3; n-- {
		fmt.Fprintf(&b, "%d,", 7*n)
	}
	set := b.String() + "3,1"
	for _, tc := range []struct{ command, want string }{
		{"a UID FETCH " + set + " UID", "* 1 FETCH (UID 1)|* 3 FETCH (UID 3)"},
		{"a FETCH " + set + " UID", "* 1 FETCH (UID 1)|* 3 FETCH (UID 3)"},
		{"a UID FETCH " + b.String() + "* UID", "* 3 FETCH (UID 3)"},
		{"a UID SEARCH SUBJECT hello UID " + set, "* SEARCH 1 3"},
		{"a UID SEARCH UID " + set + " KEYWORD $Junk", "* SEARCH"},
		{"a UID STORE " + set + " +FLAGS.SILENT ($Junk)", ""},
		{"a UID SEARCH UID " + set + " KEYWORD $Junk", "* SEARCH 1 3"},
		{"a UID FETCH $ UID", "* 2 FETCH (UID 2)"},
	} {
		got := k.ask(tc.command, "a OK")
		for len(got) > 0 && (strings.HasPrefix(got[0], "* FLAGS") || strings.HasPrefix(got[0], "* OK")) {
			got = got[1:]
		}
		if strings.Join(got, "|") != tc.want {
			t.Errorf("%.40s of %d bytes: %q, want %s", tc.command, len(tc.command), got, tc.want)
		}
	}
	for _, command := range []string{
		"a UID SEARCH UID " + set + " $", "a SEARCH " + set, "a SEARCH SUBJECT " + strings.Repeat("x", 60_000),
		"a UID FETCH " + set + ",x UID", "a NOOP " + strings.Repeat("x", 10<<20),
	} {
		k.write(command + "\r\n")
		if got := k.expect("a "); !strings.HasPrefix(got, "a BAD") {
			t.Errorf("%.40s of %d bytes: %s", command, len(command), got)
		}
	}
}

func TestSavedSearch(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello, "Subject: other\r\n\r\n", hello)
	k := s.selected()
	for _, tc := range []struct {
		command string
		want    []string
	}{
		{"a FETCH $ UID", nil},
		{"a UID SEARCH RETURN (SAVE) SUBJECT hello", nil},
		{"a UID FETCH $ UID", []string{"* 1 FETCH (UID 1)", "* 3 FETCH (UID 3)"}},
		{"a SEARCH RETURN (COUNT) $ NOT 1", []string{`* ESEARCH (TAG "a") COUNT 1`}},
		{"a UID SEARCH RETURN (MIN SAVE) SUBJECT hello", []string{`* ESEARCH (TAG "a") UID MIN 1`}},
		{"a FETCH $ UID", []string{"* 1 FETCH (UID 1)"}},
		{"a SEARCH RETURN (SAVE ALL) 2:3", []string{`* ESEARCH (TAG "a") ALL 2:3`}},
		{"a FETCH $ UID", []string{"* 2 FETCH (UID 2)", "* 3 FETCH (UID 3)"}},
		{"a search return (save) 3", nil},
		{"a STORE $ +FLAGS.SILENT (\\Deleted)", nil},
		{"a EXPUNGE", []string{"* 3 EXPUNGE"}},
		{"a FETCH $ UID", nil},
		{"a SEARCH ALL", []string{"* SEARCH 1 2"}},
	} {
		if diff := cmp.Diff(tc.want, k.ask(tc.command, "a OK"), equateEmpty); diff != "" {
			t.Errorf("%s: %s", tc.command, diff)
		}
	}
}

func TestUIDOfAnswers(t *testing.T) {
	s := newSite(t, nil)
	k := s.selected()
	k.write(appendOf("a", hello, "+"))
	if got := k.until("a "); len(got) != 3 || got[0] != "* 1 EXISTS" || !strings.HasSuffix(got[2], " 1] APPEND completed") {
		t.Errorf("append: %q", got)
	}
	k.ask("b CREATE other", "b OK")
	k.ask("c COPY 1 other", "c OK [COPYUID ")
	got := k.ask("d UID MOVE 1 other", "d OK")
	if len(got) != 2 || !strings.Contains(got[0], "COPYUID") || got[1] != "* 1 EXPUNGE" {
		t.Errorf("move: %q", got)
	}
	k.ask("e COPY 1 other", "e OK")
	k.ask("f SELECT other", "f OK")
	k.ask("g COPY 1 nowhere", "g NO [TRYCREATE]")
	k.ask(`h STORE 1:2 +FLAGS.SILENT (\Deleted)`, "h OK")
	if diff := cmp.Diff([]string{"* 2 EXPUNGE"}, k.ask("i UID EXPUNGE 2:*", "i OK")); diff != "" {
		t.Error(diff)
	}
}
