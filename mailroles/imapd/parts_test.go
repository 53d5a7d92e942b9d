package imapd

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"
)

const nested = "Subject: outer\r\nContent-Type: multipart/mixed; boundary=\"a b\"\r\n\r\npreamble\r\n" +
	"--a b\r\n\r\none\r\n--not\r\n" +
	"--a b  \r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nX-Fold: 1\r\n 2\r\n" +
	"Content-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\nContent-Type: text/html\r\n\r\n" +
	"<p>\r\n--a\r\n\r\nlast\r\n--a--\r\nepilogue\r\n" +
	"--a b\r\nContent-Type: message/rfc822\r\n\r\nSubject: single\r\n\r\nbody\r\n" +
	"--a b\r\nContent-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: in digest\r\n\r\nx\r\n" + // not closed
	"--a b--\r\nepilogue\r\n"

func TestSections(t *testing.T) {
	c := &content{SectionReader: sectionOf([]byte(nested))}
	for _, tc := range []struct {
		path      []int
		specifier imap.PartSpecifier
		want      string
	}{
		{nil, "HEADER", "Subject: outer\r\nContent-Type: multipart/mixed; boundary=\"a b\"\r\n\r\n"},
		{[]int{1}, "", "one\r\n--not"},
		{[]int{1}, "MIME", "\r\n"},
		{[]int{1}, "TEXT", ""},
		{[]int{1, 1}, "", ""},
		{[]int{2}, "MIME", "Content-Type: message/rfc822\r\n\r\n"},
		{[]int{2}, "HEADER", "Subject: inner\r\nX-Fold: 1\r\n 2\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n"},
		{[]int{2}, "TEXT", "--a\r\nContent-Type: text/html\r\n\r\n<p>\r\n--a\r\n\r\nlast\r\n--a--\r\nepilogue"},
		{[]int{2, 1}, "", "<p>"},
		{[]int{2, 1}, "MIME", "Content-Type: text/html\r\n\r\n"},
		{[]int{2, 2}, "", "last"},
		{[]int{2, 3}, "", ""},
		{[]int{3, 1}, "", "body"},
		{[]int{3, 1}, "MIME", "Subject: single\r\n\r\n"},
		{[]int{3, 1, 1}, "", ""},
		{[]int{4, 1}, "HEADER", "Subject: in digest\r\n\r\n"},
		{[]int{4, 1, 1}, "", "x"},
		{[]int{5}, "", ""},
		{[]int{0}, "", ""},
	} {
		r, err := c.section(&imap.FetchItemBodySection{Part: tc.path, Specifier: tc.specifier})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, string(got)); diff != "" {
			t.Errorf("%v %s: %s", tc.path, tc.specifier, diff)
		}
	}
}

func TestStructure(t *testing.T) {
	s := newSite(t, nil)
	s.put(nested, "Content-Type: TEXT/Plain; charset=utf-8\r\nContent-Disposition: inline; filename=x\r\n\r\n1\r\n2\r\n")
	k := s.selected()
	got := k.ask("a FETCH 1 BODY", "a OK")
	subject := func(s string) string { return `(NIL "` + s + `" NIL NIL NIL NIL NIL NIL NIL NIL)` }
	want := `* 1 FETCH (UID 1 BODY (("text" "plain" NIL NIL NIL "7bit" 10 1)` +
		`("message" "rfc822" NIL NIL NIL "7bit" 147 ` + subject("inner") +
		` (("text" "html" NIL NIL NIL "7bit" 3 0)("text" "plain" NIL NIL NIL "7bit" 4 0) "alternative") 13)` +
		`("message" "rfc822" NIL NIL NIL "7bit" 23 ` + subject("single") + ` ("text" "plain" NIL NIL NIL "7bit" 4 0) 2)` +
		`(("message" "rfc822" NIL NIL NIL "7bit" 23 ` + subject("in digest") +
		` ("text" "plain" NIL NIL NIL "7bit" 1 0) 2) "digest") "mixed"))`
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("nested: %s", diff)
	}
	const plain = `* 2 FETCH (UID 2 BODYSTRUCTURE ` +
		`("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 6 2 NIL ("inline" ("filename" "x")) NIL NIL))`
	if got := k.ask("b FETCH 2 BODYSTRUCTURE", "b OK"); got[0] != plain {
		t.Errorf("plain: %s", got[0])
	}
	const odd = "Subject: kept\r\nno field\r\n folded behind it\r\n>From x: y\r\nFrom: a@example.org\r\n\r\n"
	s.put(odd)
	k.ask("c NOOP", "c OK")
	if got := k.ask("d FETCH 3 ENVELOPE", "d OK"); !strings.Contains(got[0], `(NIL "kept" ((NIL NIL "a" "example.org"))`) {
		t.Errorf("header with lines that are none: %s", got[0])
	}
	got = k.ask("e FETCH 3 BODY[HEADER.FIELDS (FROM nothing)]", "e OK")
	if want := "From: a@example.org||)"; strings.Join(got[1:], "|") != want {
		t.Errorf("fields: %q, want %s", got, want)
	}
}

// What would take all memory or time when it is taken apart without bounds.
func TestHostileMessagesAreBounded(t *testing.T) {
	for name, text := range map[string]string{
		"messages in messages": strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 100_000),
		"multiparts":           strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", 60_000),
		"parts":                "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n\r\n", 300_000),
		"fields":               strings.Repeat("a:\r\n", 800_000),
		"one line":             strings.Repeat("-", 3_000_000),
	} {
		begun := time.Now()
		c := &content{SectionReader: sectionOf([]byte(text))}
		if _, err := c.structure(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.envelope(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("%s took %v", name, took)
		}
		count, deepest := 0, 0
		var walk func(p *part, depth int)
		walk = func(p *part, depth int) {
			count++
			deepest = max(deepest, depth)
			for _, q := range p.parts {
				walk(q, depth+1)
			}
		}
		walk(c.root, 0)
		if count > maxParts || deepest > maxDepth {
			t.Errorf("%s: %d parts, %d deep", name, count, deepest)
		}
	}
}

func TestBinary(t *testing.T) {
	s := newSite(t, nil)
	s.put("Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n" +
		"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=\r\n\xdfe\r\n" +
		"--b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: BASE64\r\n\r\n AAEC \r\n\tAwQ=\r\n" +
		"--b\r\nContent-Transfer-Encoding: x-unknown\r\n\r\nz\r\n" +
		"--b\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!\r\n--b--\r\n")
	k := s.selected()
	for _, tc := range []struct{ item, want string }{
		{"BINARY.PEEK[1]", "BINARY[1] ~{5}|Gr\xfc\xdfe)"},
		{"BINARY.PEEK[2]", "BINARY[2] ~{5}|\x00\x01\x02\x03\x04)"},
		{"BINARY.SIZE[2]", "BINARY.SIZE[2] 5)"},
		{"BINARY.PEEK[2]<3.100>", "BINARY[2] ~{2}|\x03\x04)"},
		{"BODY.PEEK[2]<1.9223372036854775807>", "BODY[2]<1> {12}|AAEC |\tAwQ=)"},
		{"BODY.PEEK[]<9223372036854775807.9223372036854775807>", "BODY[]<4294967295> {0}|)"},
	} {
		got := strings.Join(k.ask("a FETCH 1 "+tc.item, "a OK"), "|")
		if got != "* 1 FETCH (UID 1 "+tc.want {
			t.Errorf("%s: %q, want %q", tc.item, got, tc.want)
		}
	}
	k.ask("b FETCH 1 BINARY.PEEK[3]", "b NO [UNKNOWN-CTE]")
	k.ask("c FETCH 1 BINARY.SIZE[4]", "c NO [UNKNOWN-CTE]")
}

func TestOddMessagesCanBeFetched(t *testing.T) {
	s := newSite(t, nil)
	texts := []string{
		"", "\r\n", "x", "Content-Type: multipart/mixed\r\n\r\nnothing", "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
		"Content-Type: /\r\n\r\nx", "Content-Type: text\r\n\r\nx", "Content-Type: \"\r\n\r\nx",
		"Content-Type: message/rfc822\r\n\r\n", "Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/digest\r\n\r\n",
		"Subject: a\x00b\r\nFrom: \xff\xfe <\r\nDate: never\r\n\r\n\x00", strings.Repeat("x", 70_000),
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" +
			strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", 500),
		strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 1000),
	}
	s.put(texts...)
	k := s.selected()
	for i := range texts {
		k.ask(fmt.Sprintf("a FETCH %d (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE BODY[] BODY[HEADER] BODY[TEXT] "+
			"BODY[1] BODY[1.MIME] BODY[9.9] BODY[HEADER.FIELDS (From Date)] BODY[HEADER.FIELDS.NOT (x)]<0.5>)", i+1), "a OK")
		k.ask(fmt.Sprintf("a SEARCH %d TEXT x SENTSINCE 1-Jan-2000", i+1), "a OK")
	}
	if got := k.ask("b FETCH 4 BODY", "b OK"); got[0] != `* 4 FETCH (UID 4 BODY (("text" "plain" NIL NIL NIL "7bit" 0 0) "mixed"))` {
		t.Errorf("multipart without parts: %q", got)
	}
}

// FuzzParts holds the parts of any message against what offsets must be like.
func FuzzParts(f *testing.F) {
	f.Add([]byte(nested))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n--b\n--b\n\n--b--"))
	f.Add([]byte("Content-Type: message/rfc822\n\nContent-Type: multipart/x; boundary=\"\"\n\n--\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := &content{SectionReader: sectionOf(text)}
		root, err := c.find(nil)
		if err != nil {
			t.Fatal(err)
		}
		if root.start != 0 || root.end != int64(len(text)) {
			t.Errorf("message is from %d to %d of %d", root.start, root.end, len(text))
		}
		root.each(func(p *part) {
			if p.start > p.body || p.body > p.end || p.lines != int64(strings.Count(string(text[p.body:p.end]), "\n")) {
				t.Errorf("part %+v", *p)
			}
			last := p.body
			for _, q := range p.parts {
				if q.start < last || q.end > p.end {
					t.Errorf("part %+v in %+v", *q, *p)
				}
				last = q.end
			}
		})
		if _, err := c.structure(); err != nil {
			t.Error(err)
		}
		if _, err := c.envelope(); err != nil {
			t.Error(err)
		}
		for _, p := range []imap.PartSpecifier{"", "HEADER", "TEXT", "MIME"} {
			if _, err := c.section(&imap.FetchItemBodySection{Part: []int{1, 1}, Specifier: p}); err != nil {
				t.Error(err)
			}
		}
		if h := parseHeader(text); h.Header.Len() > len(fields(text)) {
			t.Errorf("more fields than there are in %q", text)
		}
	})
}
