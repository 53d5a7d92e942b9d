package mailtest

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
)

// clumsyProgram brings passwords where they do not belong, as clients do that are set up wrongly: CA PASSWORD.
const clumsyProgram = `
import base64, imaplib, smtplib, socket, ssl, sys
ca, secret = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
plain = base64.b64encode(b"\0alice@example.org\0" + secret.encode()).decode()
def talk(port, tls, *lines):
    conn = socket.create_connection(("127.0.0.1", port), timeout=60)
    if tls:
        conn = context.wrap_socket(conn, server_hostname="mx.example.org")
    f = conn.makefile("rwb")
    f.readline()
    for line in lines:
        f.write(line.encode() + b"\r\n")
        f.flush()
        if not f.readline():
            break
    conn.close()
# without TLS, where nothing is to be believed
talk(25, False, "AUTH PLAIN " + plain, "PASS " + secret)
talk(587, False, "AUTH PLAIN " + plain, secret)
talk(143, False, "a LOGIN alice@example.org " + secret, "b AUTHENTICATE PLAIN " + plain)
# with TLS: as a command, too many words, as the user's name, cut off
talk(465, True, secret, "AUTH PLAIN " + plain + " " + secret, "AUTH LOGIN " + base64.b64encode(secret.encode()).decode(), "*")
talk(465, True, "AUTH SCRAM-SHA-256 " + plain, "*")
talk(465, True, "AUTH PLAIN " + plain[:-4], "*")
talk(993, True, "a LOGIN alice@example.org " + secret + " more", "b LOGIN " + secret + " alice@example.org", "c " + secret)
talk(993, True, "a AUTHENTICATE PLAIN", plain, "b NOOP")
for port in (25, 587):
    with smtplib.SMTP("mx.example.org", port, timeout=60) as c:
        c.starttls(context=context)
        c.ehlo()
        if port == 587:
            c.login("alice@example.org", secret)
        try:
            c.sendmail("alice@example.org", ["nobody@example.org"], b"Subject: x\r\n\r\nx\r\n")
            sys.exit("a wrong recipient was taken")
        except smtplib.SMTPException:
            pass
c = imaplib.IMAP4("mx.example.org", 143)
c.starttls(context)
c.login("alice@example.org", secret)
try:
    c.select(secret)
except imaplib.IMAP4.error:
    pass
c.logout()
`

// TestLogsHaveNoCredentials has clients log in rightly, wrongly and clumsily, with all that can be logged, also when the stores
// are away. Nothing of a password is in what any role writes.
func TestLogsHaveNoCredentials(t *testing.T) {
	s := newSite(t)
	s.flags = []string{"--debug"}
	s.start()
	const wrong = "wrong-donkey-battery"
	use := func(secret string, programs ...int) { // whether they succeed is the matter of others
		for _, i := range programs {
			c := submitters[i]
			_, _ = s.try(c.argv(s, secret, alice, s.write("mail", submitted(c.name, bob)))...)
		}
		t.Logf("IMAP login: %s", s.login(alice, secret))
		_, _ = s.try("curl", "-sS", "--cacert", s.tls.CA, "imaps://"+host+"/", "-u", alice+":"+secret, "--login-options", "AUTH=PLAIN")
	}
	use(wrong, 0, 1, 4) // each mechanism once: more would be delayed
	use(password, 0, 1, 2, 3, 4, 5, 6)
	s.python(clumsyProgram, s.tls.CA, password)
	s.roles["store-east"].Kill()
	s.roles["store-west"].Kill()
	use(password, 0, 1, 4)
	var looked int
	sent := base64.StdEncoding.EncodeToString([]byte("\x00x@example.net\x00" + wrong))
	if !slices.ContainsFunc(forms(wrong), func(form string) bool { return strings.Contains(sent, form) }) {
		t.Fatalf("none of %q would find %s", forms(wrong), sent)
	}
	for name, p := range s.roles {
		log := p.Log().String()
		looked += len(log)
		for _, secret := range []string{password, wrong} {
			for _, form := range forms(secret) {
				if at := strings.Index(log, form); at >= 0 {
					t.Errorf("%s has written %q: %q", name, form, log[max(0, at-200):min(len(log), at+200)])
				}
			}
		}
	}
	for _, want := range []string{alice, "login"} { // or nothing was looked at
		if !strings.Contains(s.roles["submission"].Log().String(), want) {
			t.Errorf("submission writes nothing of %q, of %d bytes", want, looked)
		}
	}
}

// forms gives a password as it may be written: as it is, and the parts of its base64 that are the same whatever stands before it.
func forms(secret string) []string {
	list := []string{secret, base64.StdEncoding.EncodeToString([]byte("\x00" + alice + "\x00" + secret))}
	for before := range 3 {
		whole := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + secret))
		list = append(list, whole[(before*8+5)/6:(before+len(secret))*8/6])
	}
	return list
}
