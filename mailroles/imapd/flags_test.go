package imapd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/maildir"
)

const system = `\Answered \Flagged \Deleted \Seen \Draft`

func TestKeywords(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello, hello)
	k, other := s.selected(), s.selected()
	for _, tc := range []struct {
		command string
		want    []string
	}{
		{"a STORE 1 +FLAGS ($Junk Work)", []string{
			`* FLAGS (` + system + ` $Junk Work)`,
			`* OK [PERMANENTFLAGS (` + system + ` $Junk Work \*)] Flags have changed`,
			`* 1 FETCH (UID 1 FLAGS ($Junk Work \Recent))`,
		}},
		{"a STORE 2 FLAGS (work \\Seen WORK)", []string{`* 2 FETCH (UID 2 FLAGS (\Seen Work \Recent))`}},
		{"a STORE 1 -FLAGS (WORK nothere)", []string{`* 1 FETCH (UID 1 FLAGS ($Junk \Recent))`}},
		{"a SEARCH KEYWORD $junk", []string{"* SEARCH 1"}},
		{"a SEARCH UNKEYWORD $Junk KEYWORD work", []string{"* SEARCH 2"}},
		{"a STORE 1 FLAGS.SILENT (\\Draft)", nil},
		{"a FETCH 1 FLAGS", []string{`* 1 FETCH (UID 1 FLAGS (\Draft \Recent))`}},
	} {
		if diff := cmp.Diff(tc.want, k.ask(tc.command, "a OK"), equateEmpty); diff != "" {
			t.Errorf("%s: %s", tc.command, diff)
		}
	}
	got := other.ask("a NOOP", "a OK")
	want := []string{
		`* FLAGS (` + system + ` $Junk Work)`,
		`* OK [PERMANENTFLAGS (` + system + ` $Junk Work \*)] Flags have changed`,
		`* 1 FETCH (UID 1 FLAGS (\Draft))`,
		`* 2 FETCH (UID 2 FLAGS (\Seen Work))`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("other session: %s", diff)
	}
	k.write(fmt.Sprintf("b APPEND INBOX (\\Flagged WORK again) {%d+}\r\n%s\r\n", len(hello), hello))
	k.expect("* FLAGS (" + system + " $Junk Work again)")
	k.expect("b OK")
	if got := k.ask("c FETCH 3 FLAGS", "c OK"); got[0] != `* 3 FETCH (UID 3 FLAGS (\Flagged Work again \Recent))` {
		t.Errorf("appended: %q", got)
	}
}

func TestKeywordsRunOut(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello)
	k := s.selected()
	if err := s.box.Create("other"); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range maildir.MaxKeywords {
		names = append(names, fmt.Sprintf("k%d", i))
	}
	got := k.ask("a STORE 1 +FLAGS ("+strings.Join(names, " ")+")", "a OK")
	if want := "* OK [PERMANENTFLAGS (" + system + " " + strings.Join(names, " ") + ")] Flags have changed"; got[1] != want {
		t.Errorf("full folder: %s, want %s", got[1], want)
	}
	k.ask("b STORE 1 +FLAGS (more)", "b NO [LIMIT]")
	k.write(fmt.Sprintf("c APPEND INBOX (more) {%d+}\r\n%s\r\n", len(hello), hello))
	k.expect("c NO [LIMIT]")
	k.ask("d STORE 1 -FLAGS (more)", "d OK")
	k.ask("e SELECT other", "e OK")
	k.write(fmt.Sprintf("f APPEND other (more) {%d+}\r\n%s\r\n", len(hello), hello))
	k.expect("f OK")
	k.ask("g COPY 1 INBOX", "g NO [LIMIT]")
	k.ask("h EXAMINE INBOX", "h OK")
}

func TestRecent(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello, hello)
	recent := func(lines []string) string {
		for _, l := range lines {
			if strings.HasSuffix(l, " RECENT") || strings.HasPrefix(l, "* STATUS") {
				return l
			}
		}
		return "none"
	}
	one, two := s.login(), s.login()
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	check("status", recent(one.ask("a STATUS INBOX (RECENT)", "a OK")), "* STATUS INBOX (RECENT 2)")
	check("examine", recent(one.ask("a EXAMINE INBOX", "a OK")), "* 2 RECENT")
	check("select", recent(one.ask("a SELECT INBOX", "a OK")), "* 2 RECENT")
	check("another's select", recent(two.ask("a SELECT INBOX", "a OK")), "* 0 RECENT")
	s.put(hello)
	check("news", recent(two.ask("a NOOP", "a OK")), "* 1 RECENT")
	check("old news", recent(one.ask("a NOOP", "a OK")), "* 2 RECENT")
	check("search", one.ask("a SEARCH NEW", "a OK")[0], "* SEARCH 1 2")
	check("search", two.ask("a SEARCH NOT OLD", "a OK")[0], "* SEARCH 3")
	check("flags", two.ask("a FETCH 3 FLAGS", "a OK")[0], `* 3 FETCH (UID 3 FLAGS (\Recent))`)
	check("flags", one.ask("a FETCH 3 FLAGS", "a OK")[0], `* 3 FETCH (UID 3 FLAGS ())`)
	one.ask("a STORE 1 +FLAGS.SILENT (\\Deleted)", "a OK")
	one.ask("a EXPUNGE", "a OK")
	check("search", one.ask("a SEARCH RECENT", "a OK")[0], "* SEARCH 1")
	check("again", recent(one.ask("a SELECT INBOX", "a OK")), "* 0 RECENT")
	three := s.login()
	three.ask("a ENABLE IMAP4rev2", "a OK")
	s.put(hello)
	check("select under IMAP4rev2", recent(three.ask("a SELECT INBOX", "a OK")), "none")
	check("flags under IMAP4rev2", three.ask("a FETCH 3 FLAGS", "a OK")[0], `* 3 FETCH (UID 4 FLAGS ())`)
}

// What another session did must not get lost behind a silent change.
func TestSilentStoreTellsOfOthersChanges(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello)
	one, two := s.selected(), s.selected()
	two.ask(`a STORE 1 +FLAGS (\Flagged)`, "a OK")
	got := one.ask(`a STORE 1 +FLAGS.SILENT (\Seen)`, "a OK")
	if diff := cmp.Diff([]string{`* 1 FETCH (UID 1 FLAGS (\Flagged \Seen \Recent))`}, got); diff != "" {
		t.Error(diff)
	}
}
