package imapd

import (
	"os"
	"strings"
	"testing"
	"time"

	"anycastle/mailroles/store"
)

func TestSearch(t *testing.T) {
	s := newSite(t, nil)
	f, err := s.box.Folder("INBOX")
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{
		"From: Ann <ann@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nDate: Mon, 01 Jan 2024 23:30:00 -0500\r\n" +
			"\r\nbody one\r\n",
		"From: Bob <bob@example.org>\r\nSubject: plain\r\nDate: Wed, 03 Jan 2024 00:00:00 +0000\r\nX-Flag:\r\n" +
			"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nR3LDvMOfZSBib2R5\r\n",
		"From: Ann <ann@example.org>\r\nSubject: no date\r\nContent-Type: text/plain; charset=x-none\r\n\r\nthird\r\n",
		"no header at all\r\n",
	} {
		at := time.Date(2024, 2, 1+i, 12, 0, 0, 0, time.Local)
		in := store.Incoming{Body: strings.NewReader(text), Size: int64(len(text)), Date: at}
		if _, err := f.Append(in); err != nil {
			t.Fatal(err)
		}
	}
	k := s.selected()
	k.ask(`s STORE 2 +FLAGS.SILENT (\Seen \Answered)`, "s OK")
	for keys, want := range map[string]string{
		"ALL": "1 2 3 4", "SUBJECT plain": "2", "FROM ann": "1 3", "SUBJECT \"grüße\"": "1",
		"CHARSET UTF-8 SUBJECT {7+}\r\nGRÜSSE": "",
		"CHARSET utf-8 SUBJECT \"GRÜ\"":        "1", "BODY \"grüße\"": "2", "TEXT grü": "1 2", "BODY third": "3",
		"SENTON 1-Jan-2024": "1", "SENTSINCE 1-Jan-2024": "1 2", "SENTSINCE 2-Jan-2024": "2", "SENTBEFORE 3-Jan-2024": "1",
		"ON 2-Feb-2024": "2", "SINCE 3-Feb-2024": "3 4", "BEFORE 3-Feb-2024": "1 2", "SINCE 2-Feb-2024 BEFORE 4-Feb-2024": "2 3",
		"HEADER X-Flag \"\"": "2", "HEADER x-flag x": "", "NOT FROM ann": "2 4", "OR SUBJECT plain SUBJECT \"no date\"": "2 3",
		"NOT (SEEN ANSWERED)": "1 3 4", "OR SEEN FROM ann": "1 2 3", "OR (OR SUBJECT plain FROM nobody) 4": "2 4",
		"2:3": "2 3", "UID 3:*": "3 4", "*": "4", "UID 9:*": "4", "UID 9": "", "NOT UID 9:*": "1 2 3", "NOT 2,4:*": "1 3",
		"NOT NOT 1": "1", "LARGER 100": "1 2", "SMALLER 30": "4", "UNSEEN UNANSWERED": "1 3 4", "(1 OR 1 2)": "1",
	} {
		got := k.ask("a SEARCH "+keys, "a OK")
		if len(got) != 1 || strings.TrimSpace(strings.TrimPrefix(got[0], "* SEARCH")) != want {
			t.Errorf("%s: %q, want %s", keys, got, want)
		}
	}
	k.ask("b SEARCH CHARSET latin-1 ALL", "b NO [BADCHARSET")
	if got := k.ask("c UID SEARCH RETURN (MIN MAX COUNT) 2:*", "c OK"); got[0] != `* ESEARCH (TAG "c") UID MIN 2 MAX 4 COUNT 3` {
		t.Errorf("esearch: %q", got)
	}
}

// Files that are not needed are not opened: theirs are gone here.
func TestSearchOpensOnlyWhatItNeeds(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello, hello, hello)
	k := s.selected()
	k.ask(`s STORE 3 +FLAGS (\Flagged)`, "s OK")
	f, err := s.box.Folder("INBOX")
	if err != nil {
		t.Fatal(err)
	}
	for _, uid := range []uint32{1, 2} {
		file, err := f.Open(uid)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		if err := os.Remove(file.Name()); err != nil {
			t.Fatal(err)
		}
	}
	for keys, want := range map[string]string{
		"SUBJECT hello FLAGGED": "3", "SUBJECT hello NOT UNFLAGGED": "3", "OR UNFLAGGED SUBJECT hello": "1 2 3",
		"TEXT x OR FLAGGED FLAGGED": "", "NOT (UNFLAGGED) NOT SUBJECT x": "3",
	} {
		if got := k.ask("a SEARCH "+keys, "a OK"); strings.TrimSpace(strings.TrimPrefix(got[0], "* SEARCH")) != want {
			t.Errorf("%s: %q, want %s", keys, got, want)
		}
	}
	k.ask("b SEARCH SUBJECT hello", "b NO [UNAVAILABLE]")
}
