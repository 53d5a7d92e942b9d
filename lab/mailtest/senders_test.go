package mailtest

import (
	"fmt"
	"strings"
	"testing"
)

// text gives a message with a subject and a body of its own.
func text(subject string) string {
	return fmt.Sprintf("From: X <%s>\r\nTo: %s\r\nSubject: %s\r\nMessage-ID: <%s@example.net>\r\n\r\nHello, %s.\r\n",
		stranger, alice, subject, subject, subject)
}

func TestSwaks(t *testing.T) {
	s := newSite(t)
	s.start()
	said := s.must("swaks", "--server", host, "--from", stranger, "--to", alice, "--tls", "--data", text("swaks"))
	if !strings.Contains(said, "=== TLS started") {
		t.Errorf("swaks says nothing of TLS:\n%s", said)
	}
	if got := s.read(alice); len(got) != 1 || !strings.Contains(got[0], "\r\n\r\nHello, swaks.\r\n") {
		t.Errorf("alice has %q, want the one message of swaks", got)
	}
	said, err := s.try("swaks", "--server", host, "--from", stranger, "--to", "nobody@example.org")
	if err == nil || !strings.Contains(said, "550 5.1.1") {
		t.Errorf("swaks to nobody: %v\n%s", err, said)
	}
}

func TestCurlSends(t *testing.T) {
	s := newSite(t)
	s.start()
	s.must("curl", "-sS", "--ssl-reqd", "--cacert", s.tls.CA, "smtp://"+host, "--mail-from", stranger, "--mail-rcpt", alice,
		"--mail-rcpt", bob, "-T", s.write("mail", text("curl")))
	for _, who := range []string{alice, bob} {
		if got := s.read(who); len(got) != 1 || !strings.HasSuffix(got[0], text("curl")) {
			t.Errorf("%s has %q, want the one message of curl", who, got)
		}
	}
}

const smtplibProgram = `
import smtplib, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
with smtplib.SMTP("mx.example.org", 25) as c:
    c.starttls(context=context)
    c.ehlo()
    for ext in ("size", "8bitmime", "pipelining", "chunking", "enhancedstatuscodes"):
        assert c.has_extn(ext), ext
    for n in range(3):
        refused = c.sendmail("x@example.net", ["alice@example.org", "nobody@example.org"],
            ("Subject: %d\r\nMessage-ID: <%d@example.net>\r\n\r\n.dot\r\ngr\u00fc\u00dfe\r\n" % (n, n)).encode("utf-8"))
        assert list(refused) == ["nobody@example.org"] and refused["nobody@example.org"][0] == 550, refused
    try:
        c.sendmail("x@example.net", ["alice@example.org"], b"Subject: bare\n\nx\r\n")
        sys.exit("a LF alone was taken")
    except smtplib.SMTPDataError as e:
        assert e.smtp_code == 554, e
`

func TestSmtplib(t *testing.T) {
	s := newSite(t)
	s.start()
	s.python(smtplibProgram, s.tls.CA)
	got := s.read(alice)
	if len(got) != 3 {
		t.Fatalf("alice has %d messages, want 3", len(got))
	}
	for n, msg := range got {
		want := fmt.Sprintf("Subject: %d\r\nMessage-ID: <%d@example.net>\r\n\r\n.dot\r\ngrüße\r\n", n, n)
		if !strings.HasSuffix(msg, want) {
			t.Errorf("message %d is %q, want %q at its end", n, msg, want)
		}
	}
}

func TestSmtpSource(t *testing.T) {
	s := newSite(t)
	s.start()
	const mails = 500
	s.must("smtp-source", "-s", "20", "-m", fmt.Sprint(mails), "-l", "10000", "-f", stranger, "-t", bob, "127.0.0.1:25")
	if got := s.read(bob); len(got) != mails {
		t.Errorf("bob has %d messages, want the %d of smtp-source", len(got), mails)
	}
}
