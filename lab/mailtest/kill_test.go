package mailtest

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"anycastle/internal/proctest"
)

// oncesProgram sends 500 messages over 10 sessions, each once, whatever becomes of it, and writes which were answered with 250 to
// a file: FILE. It says how many after every tenth. After a failure it waits until the recipient is accepted again.
const oncesProgram = `
import json, smtplib, sys, threading, time
lock, taken, ended = threading.Lock(), [], [0]
def connect():
    while True:
        time.sleep(0.05)
        try:
            c = smtplib.SMTP("mx.example.org", 25, timeout=120)
            c.ehlo()
            c.mail("x@example.net")
            if c.rcpt("bob@example.org")[0] == 250:
                c.rset()
                return c
            c.quit()
        except smtplib.SMTPServerDisconnected:
            pass
def send(session):
    c = None
    for n in range(50):
        name = "%d.%d" % (session, n)
        try:
            if c is None:
                c = connect()
            c.sendmail("x@example.net", ["bob@example.org"],
                ("Subject: once\r\nMessage-ID: <%s@once.example>\r\n\r\n" % name + "0123456789\r\n" * 500).encode())
            done = True
        except smtplib.SMTPServerDisconnected:
            c, done = None, False
        except smtplib.SMTPResponseException as e:
            assert e.smtp_code in (421, 451), e
            c, done = None, False
        except smtplib.SMTPRecipientsRefused as e:
            assert all(code in (421, 451) for code, said in e.recipients.values()), e.recipients
            c, done = None, False
        with lock:
            if done:
                taken.append(name)
                if len(taken) % 10 == 0:
                    print(len(taken), "taken", flush=True)
    with lock:
        ended[0] += 1
threads = [threading.Thread(target=send, args=(i,)) for i in range(10)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert ended[0] == 10, "a thread has failed"
json.dump(taken, open(sys.argv[1], "w"))
`

// TestKilledStore kills a store while mail streams in. All that was answered with 250 is there once when it is back, and nothing
// is there twice.
func TestKilledStore(t *testing.T) {
	s := newSite(t)
	s.start()
	load := s.run("smtp-source", "-A", "-s", "5", "-m", "500", "-l", "10000", "-f", stranger, "-t", bob, "127.0.0.1:25")
	names := s.path("names")
	p := s.session("onces.py", oncesProgram, "50 taken", names)
	s.roles["store-west"].Kill()
	proctest.Eventually(t, "the MX finds out", func() bool { return s.post(stranger, bob, text("away")) != "250 taken" })
	s.startRole("store-west")
	if err := p.Wait(); err != nil {
		t.Fatalf("the sender: %v\n%s", err, p.Log())
	}
	if err := load.Wait(); err != nil {
		t.Fatalf("smtp-source: %v\n%s", err, load.Log())
	}
	var taken []string
	raw, err := os.ReadFile(names)
	proctest.Check(t, err)
	proctest.Check(t, json.Unmarshal(raw, &taken))
	if len(taken) < 400 || len(taken) == 500 {
		t.Errorf("%d of 500 were taken, want all but those at work when the store was killed", len(taken))
	}
	times := map[string]int{}
	for _, text := range s.read(bob) {
		times[messageID(text)]++
	}
	for _, name := range taken {
		if n := times[fmt.Sprintf("<%s@once.example>", name)]; n != 1 {
			t.Errorf("%s was answered with 250 and is there %d times", name, n)
		}
	}
	for id, n := range times {
		if n > 1 && id != "" {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	t.Logf("%d of 500 were answered with 250; %d messages are there", len(taken), len(times))
}

// messageID gives the Message-ID of a message, empty when it has none.
func messageID(text string) string {
	for line := range strings.SplitSeq(text, "\r\n") {
		if name, id, ok := strings.Cut(line, ": "); ok && strings.EqualFold(name, "Message-ID") {
			return id
		}
	}
	return ""
}
