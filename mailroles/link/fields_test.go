package link

import (
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

func TestPath(t *testing.T) {
	for _, tc := range []struct{ address, path string }{
		{"alice@example.org", "alice@example.org"},
		{"a.b+c@example.org", "a.b+c@example.org"},
		{"grüße@example.org", "grüße@example.org"},
		{"a b@example.org", `"a b"@example.org`},
		{"a@b@example.org", `"a@b"@example.org`},
		{".a@example.org", `".a"@example.org`},
		{`a"\b@example.org`, `"a\"\\b"@example.org`},
		{"x> ENVID=q+3D1@example.org", `"x> ENVID=q+3D1"@example.org`},
	} {
		if got := Path(tc.address); got != tc.path {
			t.Errorf("Path(%q) = %q, want %q", tc.address, got, tc.path)
		}
		if !IsPath(tc.address) {
			t.Errorf("%q is no path", tc.address)
		}
	}
	for _, bad := range []string{
		"", "alice", "@example.org", "alice@", "a\r\nb@example.org", "a\x00@example.org",
		"a@example.org>", "a@exa mple.org", "\xff@example.org",
	} {
		if IsPath(bad) {
			t.Errorf("%q is a path", bad)
		}
	}
}

func TestFieldsComeBack(t *testing.T) {
	for _, f := range []Fields{
		{},
		{Tx: strings.Repeat("0a", 16)},
		{Hold: true, EnvelopeID: "QQ314159"},
		{Tx: strings.Repeat("f9", 16), Hold: true, EnvelopeID: "a;q=1;e=b"},
	} {
		if got, err := ParseFields(f.String()); err != nil || got != f {
			t.Errorf("%q came back as %+v, %v, want %+v", f.String(), got, err, f)
		}
	}
	for _, bad := range []string{"t=0a", "t=" + strings.Repeat("0A", 16), "q=2", "x=1;e=a", "QQ314159"} {
		if f, err := ParseFields(bad); err == nil {
			t.Errorf("%q was read as %+v, want an error", bad, f)
		}
	}
}

func TestCommands(t *testing.T) {
	m := Message{
		From:    "x> y@example.org",
		Options: smtp.MailOptions{UTF8: true, Size: 10, Return: smtp.DSNReturnHeaders, EnvelopeID: "a=b c", RequireTLS: true},
		User:    "alice@example.org",
		Hold:    true,
	}
	to := Recipient{Address: "bob@example.org", Options: smtp.RcptOptions{
		Notify:                []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyFailure},
		OriginalRecipientType: smtp.DSNAddressTypeRFC822,
		OriginalRecipient:     "team+x@example.org",
	}}
	utf8 := Recipient{Address: "bob@example.org", Options: smtp.RcptOptions{
		OriginalRecipientType: smtp.DSNAddressTypeUTF8, OriginalRecipient: "grüß+x@example.org",
	}}
	lines, err := commands(m, []Recipient{to, utf8}, "DATA")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`MAIL FROM:<"x> y"@example.org> BODY=8BITMIME SMTPUTF8 SIZE=10 RET=HDRS ENVID=q+3D1;e+3Da+3Db+20c AUTH=alice@example.org`,
		`RCPT TO:<bob@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=RFC822;team+2Bx@example.org`,
		`RCPT TO:<bob@example.org> ORCPT=UTF-8;gr\x{FC}\x{DF}\x{2B}x@example.org`,
		"DATA",
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("commands are\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if _, err := commands(Message{From: "a\r\nRSET@example.org"}, []Recipient{to}, "DATA"); err == nil {
		t.Error("a sender with a line end became a command")
	}
}

func TestCommandsOfMailboxesThatAreNotASCII(t *testing.T) {
	m := Message{From: "x@example.org", User: "grüße+a=b@example.org"}
	for _, tc := range []struct{ to, mail string }{
		{"bob@example.org", "MAIL FROM:<x@example.org> BODY=8BITMIME AUTH=grüße+2Ba+3Db@example.org"},
		// an alias of ASCII may lead here
		{"tür@example.org", "MAIL FROM:<x@example.org> BODY=8BITMIME SMTPUTF8 AUTH=grüße+2Ba+3Db@example.org"},
	} {
		lines, err := commands(m, []Recipient{{Address: tc.to}}, "DATA")
		if err != nil || lines[0] != tc.mail {
			t.Errorf("for %s the command is %q, %v, want %q", tc.to, lines, err, tc.mail)
		}
	}
}

func TestDotWriter(t *testing.T) {
	for _, tc := range []struct{ body, want string }{
		{"", ".\r\n"},
		{"a\r\nb\r\n", "a\r\nb\r\n.\r\n"},
		{".\r\n..\r\n.a\r\n", "..\r\n...\r\n..a\r\n.\r\n"},
		{"no end", "no end\r\n.\r\n"},
		{"a\nb\n.\n", "a\r\nb\r\n..\r\n.\r\n"},
		{"half\r", "half\r\n.\r\n"},
		{"\r\n\r\n", "\r\n\r\n.\r\n"},
	} {
		for _, piece := range []int{1, 2, 3, 100} {
			var got strings.Builder
			d := newDotWriter(&got)
			for rest := tc.body; rest != ""; {
				n := min(piece, len(rest))
				if _, err := d.Write([]byte(rest[:n])); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if err := d.end(); err != nil {
				t.Fatal(err)
			}
			if got.String() != tc.want {
				t.Errorf("%q in pieces of %d became %q, want %q", tc.body, piece, got.String(), tc.want)
			}
		}
	}
}
