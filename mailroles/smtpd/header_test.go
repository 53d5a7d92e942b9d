package smtpd

import (
	"io"
	"strings"
	"testing"

	"anycastle/mailroles/spool"
)

// plain is a message.
const plain = "Message-ID: <1@example.org>\r\nSubject: hello\r\n\r\nHello.\r\n"

func TestHeader(t *testing.T) {
	long := strings.Repeat("x", 2*maxFieldText)
	for _, tc := range []struct {
		name, text string
		hops       int
		named      bool
		rest       string // of the text, without the fields in our name; "" when all of it
	}{
		{"empty", "", 0, false, ""},
		{"no header", "\r\nMessage-ID: <1@x>\r\n", 0, false, ""},
		{"plain", plain, 0, true, ""},
		{"names in any case, and spaces before the colon", "MESSAGE-id : <1@x>\r\nreceived: a\r\nReceived\t: b\r\n\r\n", 2, true, ""},
		{"header only", "Received: a", 1, false, ""},
		{"folded names are no names", "Subject: x\r\n Received: y\r\n\tMessage-ID: z\r\n\r\n", 0, false, ""},
		{"long lines", "Subject: " + long + "\r\nReceived: " + long + "\r\n\r\n", 1, false, ""},
		{"another's results", "Authentication-Results: mx.example.com; spf=pass\r\n\r\n", 0, false, ""},
		{"ours", "A: b\r\nAuthentication-Results: mx.example.org; spf=pass\r\nC: d\r\n\r\nbody\r\n", 0, false,
			"A: b\r\nC: d\r\n\r\nbody\r\n"},
		{"ours, folded", "Authentication-Results:\r\n mx.example.org;\r\n\tspf=pass\r\nC: d\r\n\r\n", 0, false, "C: d\r\n\r\n"},
		{"ours, in another case", "authentication-RESULTS : MX.example.ORG;spf=pass\r\n\r\n", 0, false, "\r\n"},
		{"ours, with a version", "Authentication-Results: mx.example.org 1; spf=pass\r\n\r\n", 0, false, "\r\n"},
		{"ours, with comments", "Authentication-Results: (a (b\\) c) d) mx.example.org(e); spf=pass\r\n\r\n", 0, false, "\r\n"},
		{"ours, quoted", "Authentication-Results: \"mx.\\example.org\"; spf=pass\r\n\r\n", 0, false, "\r\n"},
		{"ours, with a dot", "Authentication-Results: mx.example.org.; spf=pass\r\n\r\n", 0, false, "\r\n"},
		{"ours, last", "Authentication-Results: mx.example.org; none", 0, false, "-"},
		{"two of ours", "Authentication-Results: mx.example.org; a\r\nA: b\r\n" +
			"Authentication-Results: mx.example.org; b\r\nReceived: c\r\n\r\n", 1, false,
			"A: b\r\nReceived: c\r\n\r\n"},
		{"nobody's", "Authentication-Results: ; spf=pass\r\n\r\n", 0, false, "\r\n"},
		{"unending comment", "Authentication-Results: (mx.example.com; spf=pass\r\n\r\n", 0, false, "\r\n"},
		{"hidden behind a long comment", "Authentication-Results: (" + long + ") mx.example.org; spf=pass\r\n\r\n", 0, false, "\r\n"},
		{"hidden behind long spaces", "Authentication-Results:" + strings.Repeat(" ", 2*maxFieldText) +
			"mx.example.org; spf=pass\r\n\r\n", 0, false, "\r\n"},
		{"in the body", "A: b\r\n\r\nAuthentication-Results: mx.example.org; spf=pass\r\nReceived: x\r\n", 0, false, ""},
		{"after a line that is no field", "no field\r\nAuthentication-Results: mx.example.org; spf=pass\r\n\r\n", 0, false,
			"no field\r\n\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, err := scanHeader(strings.NewReader(tc.text), "mx.example.org")
			if err != nil {
				t.Fatal(err)
			}
			if h.hops != tc.hops || h.named != tc.named {
				t.Errorf("%d hops, named %v; want %d, %v", h.hops, h.named, tc.hops, tc.named)
			}
			body, err := spool.Fill(t.TempDir(), strings.NewReader(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			rest, err := without(body, h.ours)
			if err != nil {
				t.Fatal(err)
			}
			defer rest.Close()
			got, err := io.ReadAll(rest.Reader())
			if err != nil {
				t.Fatal(err)
			}
			want := tc.rest
			switch want {
			case "":
				want = tc.text
			case "-":
				want = ""
			}
			if string(got) != want {
				t.Errorf("what is left is %.200q, want %.200q", got, want)
			}
		})
	}
}

func FuzzHeader(f *testing.F) {
	for _, text := range []string{
		plain, "Authentication-Results: mx.example.org; a\r\nA: b\r\n\r\nbody", "Authentication-Results: (\\", " x\r\n:\r\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := scanHeader(strings.NewReader(text), "mx.example.org")
		if err != nil {
			t.Fatal(err)
		}
		var at int64
		for _, s := range h.ours {
			if s.from < at || s.to <= s.from || s.to > int64(len(text)) {
				t.Fatalf("sections %v of %d bytes", h.ours, len(text))
			}
			at = s.to
		}
		body, err := spool.Fill(t.TempDir(), strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		rest, err := without(body, h.ours)
		if err != nil {
			t.Fatal(err)
		}
		defer rest.Close()
		again, err := scanHeader(rest.Reader(), "mx.example.org")
		if err != nil || len(again.ours) > 0 || again.hops != h.hops || again.named != h.named {
			t.Errorf("without its fields in our name the header has %+v, %v; before it had %+v", again, err, h)
		}
	})
}
