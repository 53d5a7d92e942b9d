package mailtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"anycastle/internal/proctest"
)

// submitProgram logs in with Python's smtplib and sends a file: PORT CA USER PASSWORD FROM TO FILE.
const submitProgram = `
import smtplib, ssl, sys
port, ca, user, password, sender, to, name = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if port == "465":
    c = smtplib.SMTP_SSL("mx.example.org", 465, context=context, timeout=60)
else:
    c = smtplib.SMTP("mx.example.org", int(port), timeout=60)
    c.starttls(context=context)
c.login(user, password)
c.sendmail(sender, [to], open(name, "rb").read())
c.quit()
`

// submitters are programs that log in as alice and send a message to bob. A test of package submission has them in all their
// variants.
var submitters = []struct {
	name string
	argv func(s *site, secret, from, file string) []string
}{
	{"swaks-587-plain", func(s *site, secret, from, file string) []string {
		return s.swaks("587", "--tls", "PLAIN", secret, from, bob, file)
	}},
	{"swaks-465-login", func(s *site, secret, from, file string) []string {
		return s.swaks("465", "--tls-on-connect", "LOGIN", secret, from, bob, file)
	}},
	{"smtplib-587", func(s *site, secret, from, file string) []string {
		return []string{"python3", s.write("submit.py", submitProgram), "587", s.tls.CA, alice, secret, from, bob, file}
	}},
	{"smtplib-465", func(s *site, secret, from, file string) []string {
		return []string{"python3", s.write("submit.py", submitProgram), "465", s.tls.CA, alice, secret, from, bob, file}
	}},
	{"msmtp-587-scram", func(s *site, secret, from, file string) []string {
		return []string{"sh", "-c", `exec msmtp --file=/dev/null --host=mx.example.org --port=587 --tls=on --tls-starttls=on \
			--tls-trust-file="$0" --auth=scram-sha-256 --user="$1" --passwordeval="cat $2" --from="$3" "$4" <"$5"`,
			s.tls.CA, alice, s.write("secret", secret+"\n"), from, bob, file}
	}},
	{"curl-587", func(s *site, secret, from, file string) []string {
		return []string{"curl", "-sS", "--ssl-reqd", "--cacert", s.tls.CA, "smtp://" + host + ":587", "-u", alice + ":" + secret,
			"--mail-from", from, "--mail-rcpt", bob, "-T", file}
	}},
	{"curl-465", func(s *site, secret, from, file string) []string {
		return []string{"curl", "-sS", "--cacert", s.tls.CA, "smtps://" + host + ":465", "-u", alice + ":" + secret,
			"--mail-from", from, "--mail-rcpt", bob, "-T", file}
	}},
}

// swaks gives a call of swaks that logs in as alice and sends a file.
func (s *site) swaks(port, tls, mechanism, secret, from, to, file string) []string {
	return []string{"swaks", "--server", host, "--port", port, tls, "--tls-ca-path", s.tls.CA, "--tls-verify",
		"--auth", mechanism, "--auth-user", alice, "--auth-password", secret, "--from", from, "--to", to, "--data", "@" + file}
}

// submitted is a message of alice's.
func submitted(subject, to string) string {
	return fmt.Sprintf("From: Alice <%s>\r\nTo: %s\r\nSubject: %s\r\n\r\nHello, %s.\r\n", alice, to, subject, subject)
}

// signing has the submission service sign for our domain. The gss tells of the key.
func (s *site) signing() {
	s.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	proctest.Check(s.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	proctest.Check(s.t, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	proctest.Check(s.t, err)
	s.write("dkim.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	text := "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
	s.write("dkim.pub", fmt.Sprintf("( %q %q )", text[:200], text[200:])) // a string of TXT has at most 255 bytes
	s.more["submission"] += "    dkim:\n      require: true\n" +
		"      keys: [{domain: example.org, selector: s1, key: " + s.path("dkim.pem") + "}]\n"
}

func TestSubmission(t *testing.T) {
	s := newSite(t)
	s.signing()
	s.start()
	for _, c := range submitters {
		s.must(c.argv(s, password, alice, s.write("mail", submitted(c.name, bob)))...)
	}
	got := s.read(bob)
	if len(got) != len(submitters) {
		t.Fatalf("bob has %d messages, want one of each program: %q", len(got), got)
	}
	for i, c := range submitters {
		for _, part := range []string{"\r\nSubject: " + c.name + "\r\n", "\r\nDKIM-Signature: ", "\r\nMessage-ID: ", "\r\nDate: "} {
			if !strings.Contains(strings.ToLower("\r\n"+got[i]), strings.ToLower(part)) {
				t.Errorf("the message of %s has no %q:\n%s", c.name, part, got[i])
			}
		}
		if !strings.Contains(got[i], "\r\n\r\nHello, "+c.name+".\r\n") || strings.Contains(got[i], "127.0.0.1") {
			t.Errorf("the message of %s is changed, or tells from where it was sent:\n%s", c.name, got[i])
		}
	}
}

func TestSubmissionRefuses(t *testing.T) {
	s := newSite(t)
	s.start()
	for _, c := range submitters {
		file := s.write("mail", submitted(c.name, bob))
		if said, err := s.try(c.argv(s, password, bob, file)...); err == nil {
			t.Errorf("%s sends as another:\n%s", c.name, said)
		}
		file = s.write("mail", strings.Replace(submitted(c.name, bob), alice, bob, 1))
		if said, err := s.try(c.argv(s, password, alice, file)...); err == nil {
			t.Errorf("%s sends with another in From:\n%s", c.name, said)
		}
	}
	// once for each mechanism: the account is delayed soon
	for _, i := range []int{0, 1, 4} {
		c := submitters[i]
		said, err := s.try(c.argv(s, "wrong", alice, s.write("mail", submitted(c.name, bob)))...)
		if err == nil || !strings.Contains(said, "535") {
			t.Errorf("%s with a wrong password, want 535: %v\n%s", c.name, err, said)
		}
	}
	said, err := s.try("swaks", "--server", host, "--port", "587", "--from", alice, "--to", bob)
	if err == nil || !strings.Contains(said, "530") {
		t.Errorf("swaks without a login, want 530: %v\n%s", err, said)
	}
	if got := s.read(bob); len(got) != 0 {
		t.Errorf("bob has %d messages, want none", len(got))
	}
	var status []struct{ Rejects map[string]uint64 }
	s.show("submission", "mail", &status)
	if n := status[0].Rejects["login"]; n != 3 {
		t.Errorf("%d refused logins were counted, want 3: %v", n, status[0].Rejects)
	}
}
