package mailtest

import (
	"strings"
	"testing"
)

const screenSection = `    screen:
      max_sessions: 2
      greet_delay: 1s
      dnsbl:
        resolver: 127.0.0.1:53
        lists: [{zone: bl.example.net}]
`

func TestBlockList(t *testing.T) {
	s := newSite(t)
	s.more["smtp"] = screenSection
	s.startRole("gss")
	s.start()
	for client, want := range map[string]string{
		listed: "554", errorOf: "250 2.0.0", unlisted: "250 2.0.0",
	} {
		said, err := s.try("swaks", "--server", host, "--from", stranger, "--to", alice, "--local-interface", client,
			"--data", text("from-"+client))
		if (err == nil) != (client != listed) || !strings.Contains(said, "\n<-  "+want) && !strings.Contains(said, "\n<** "+want) {
			t.Errorf("client %s, want %s: %v\n%s", client, want, err, said)
		}
		if client == listed && (!strings.Contains(said, "listed by bl.example.net") || strings.Contains(said, "EHLO")) {
			t.Errorf("the listed client is not told of its list before it speaks:\n%s", said)
		}
	}
	if got := s.read(alice); len(got) != 2 {
		t.Errorf("alice has %d messages, want those of the two that are not listed: %q", len(got), got)
	}
	var status []struct {
		Lists []struct {
			Zone, Broken   string
			Listed, Errors uint64
		} `json:"block_lists"`
	}
	s.show("smtp", "mail", &status)
	if len(status) != 1 || len(status[0].Lists) != 1 {
		t.Fatalf("status of the lists: %+v", status)
	}
	if l := status[0].Lists[0]; l.Listed != 1 || l.Errors != 1 || l.Broken != "" {
		t.Errorf("the list is shown as %+v, want one listed and one question without an answer", l)
	}
}

const hastyProgram = `
import smtplib, socket
c = socket.create_connection(("127.0.0.1", 25), source_address=("127.0.0.96", 0), timeout=30)
c.sendall(b"EHLO hasty.example.net\r\n")
said = b""
while True:
    got = c.recv(1000)
    if not got:
        break
    said += got
assert said.startswith(b"554 5.7.1 "), said
assert said.count(b"\n") == 1, said

def session():
    return smtplib.SMTP("127.0.0.1", 25, source_address=("127.0.0.95", 0), timeout=30)

two = [session(), session()]
try:
    session()
    raise SystemExit("a third session of one source was let in")
except smtplib.SMTPConnectError as e:
    assert e.smtp_code == 421, e
smtplib.SMTP("127.0.0.1", 25, source_address=("127.0.0.94", 0), timeout=30).quit() # another source
assert two[0].noop()[0] == 250
two[0].quit()
for turn in range(100):
    try:
        session().quit()
        break
    except smtplib.SMTPConnectError as e:
        assert e.smtp_code == 421, e # until the server has seen the end
else:
    raise SystemExit("a place that is free again is given to nobody")
`

func TestHastyClients(t *testing.T) {
	s := newSite(t)
	s.more["smtp"] = screenSection
	s.startRole("gss")
	s.startRole("smtp")
	s.python(hastyProgram)
	var status []struct{ Screen map[string]uint64 }
	s.show("smtp", "mail", &status)
	if got := status[0].Screen; got["early-talker"] != 1 || got["source-sessions"] == 0 {
		t.Errorf("the screen has counted %v", got)
	}
}
