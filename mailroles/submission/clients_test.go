package submission

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// smtplib logs in with Python's own library and sends a message: ADDRESS TLS MECHANISM CA USER PASSWORD FROM TO, where TLS is
// "starttls" or "tls". The mechanism "" is the library's choice.
const smtplib = `
import smtplib, ssl, sys
address, tls, mechanism, ca, user, password, sender, to = sys.argv[1:]
host, port = address.split(":")
ctx = ssl.create_default_context(cafile=ca)
if tls == "tls":
    c = smtplib.SMTP_SSL(host, int(port), context=ctx, timeout=20)
else:
    c = smtplib.SMTP(host, int(port), timeout=20)
    c.starttls(context=ctx)
c.ehlo()
if mechanism:
    c.user, c.password = user, password
    c.auth(mechanism, getattr(c, "auth_" + mechanism.lower()))
else:
    c.login(user, password)
c.sendmail(sender, [to], sys.stdin.buffer.read())
c.quit()
`

// client is a program that sends a message with a login.
type client struct {
	name    string
	secure  bool // TLS from the first byte
	program string
	args    func(s *service, addr, password, from string) []string
	input   bool // reads the message from its standard input
}

func host(addr string) (name, port string) {
	name, port, _ = net.SplitHostPort(addr)
	return name, port
}

func swaks(tls, mechanism string) func(*service, string, string, string) []string {
	return func(_ *service, addr, password, from string) []string {
		name, port := host(addr)
		return []string{
			"--server", name, "--port", port, tls, "--auth", mechanism, "--auth-user", alice, "--auth-password", password,
			"--from", from, "--to", bob, "--data", strings.ReplaceAll(greeting, "\r\n", "\\n"), "--hide-all",
		}
	}
}

func python(tls, mechanism string) func(*service, string, string, string) []string {
	return func(s *service, addr, secret, from string) []string {
		if secret == password {
			secret = asciiPassword // the library takes no other
		}
		return []string{"-c", smtplib, addr, tls, mechanism, s.ca, alice, secret, from, bob}
	}
}

func msmtp(mechanism string, starttls string) func(*service, string, string, string) []string {
	return func(s *service, addr, password, from string) []string {
		file := filepath.Join(s.t.TempDir(), "password")
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			s.t.Fatal(err)
		}
		name, port := host(addr)
		return []string{
			"--file=/dev/null", "--host=" + name, "--port=" + port, "--tls=on", "--tls-starttls=" + starttls, "--tls-trust-file=" + s.ca,
			"--auth=" + mechanism, "--user=" + alice, "--passwordeval=cat " + file, "--from=" + from, bob,
		}
	}
}

func curl(scheme, mechanism string) func(*service, string, string, string) []string {
	return func(s *service, addr, password, from string) []string {
		return []string{
			"--silent", "--show-error", "--ssl-reqd", "--cacert", s.ca,
			"--login-options", "AUTH=" + mechanism, "--user", alice + ":" + password,
			"--mail-from", from, "--mail-rcpt", bob, "--upload-file", "-", scheme + "://" + addr,
		}
	}
}

var clients = []client{
	{"swaks, STARTTLS, PLAIN", false, "swaks", swaks("--tls", "PLAIN"), false},
	{"swaks, STARTTLS, LOGIN", false, "swaks", swaks("--tls", "LOGIN"), false},
	{"swaks, TLS, PLAIN", true, "swaks", swaks("--tls-on-connect", "PLAIN"), false},
	{"swaks, TLS, LOGIN", true, "swaks", swaks("--tls-on-connect", "LOGIN"), false},
	{"smtplib, STARTTLS", false, "/usr/bin/python3", python("starttls", ""), true},
	{"smtplib, STARTTLS, LOGIN", false, "/usr/bin/python3", python("starttls", "LOGIN"), true},
	{"smtplib, TLS", true, "/usr/bin/python3", python("tls", ""), true},
	{"msmtp, STARTTLS, SCRAM-SHA-256", false, "msmtp", msmtp("scram-sha-256", "on"), true},
	{"msmtp, STARTTLS, its choice", false, "msmtp", msmtp("on", "on"), true},
	{"msmtp, TLS, SCRAM-SHA-256", true, "msmtp", msmtp("scram-sha-256", "off"), true},
	{"curl, STARTTLS, PLAIN", false, "curl", curl("smtp", "PLAIN"), true},
	{"curl, TLS, LOGIN", true, "curl", curl("smtps", "LOGIN"), true},
}

// run has the program send the greeting.
func (c client) run(t *testing.T, s *service, password, from string) (output string, err error) {
	t.Helper()
	if _, err := exec.LookPath(c.program); err != nil {
		t.Fatalf("%v; install what .ci/packages lists", err)
	}
	addr := s.plain
	if c.secure {
		addr = s.tls
	}
	cmd := exec.Command(c.program, c.args(s, addr, password, from)...)
	if c.input {
		cmd.Stdin = strings.NewReader(greeting)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestClientsOfOthersSend(t *testing.T) {
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			s := newService(t, nil)
			if out, err := c.run(t, s, password, alice); err != nil {
				t.Fatalf("%v:\n%s\n%s", err, out, s.log.String())
			}
			got := s.store.at(t, luns["lun-west"].LMTP)
			if got.User != alice || !strings.Contains(got.text, greeting) {
				t.Errorf("%s sent\n%s", got.User, got.text)
			}
		})
	}
}

func TestClientsOfOthersAreRefused(t *testing.T) {
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			s := newService(t, nil)
			if out, err := c.run(t, s, "wrong", alice); err == nil {
				t.Errorf("a wrong password did:\n%s", out)
			}
			if n := s.tally.Counts().Rejects["login"]; n == 0 {
				t.Errorf("the refusal was not counted:\n%s", s.log.String())
			}
			if out, err := c.run(t, s, password, bob); err == nil {
				t.Errorf("another's address did:\n%s", out)
			}
			if n := s.tally.Counts().Rejects["sender"]; n != 1 {
				t.Errorf("%d refusals of the sender were counted", n)
			}
			if len(s.store.all) != 0 {
				t.Errorf("handed on: %+v", s.store.all)
			}
		})
	}
}
