package mailtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycastle/internal/proctest"
)

// queued is an entry of a queue, as `anycastle show queue -o json` tells of it.
type queued struct {
	From       string
	Recipients []struct{ Address, State, Last string }
}

// queue gives what waits on lun-east.
func (s *site) queue() (list []queued) {
	s.t.Helper()
	s.show("store-east", "queue", &list)
	return list
}

// sink runs Postfix's smtp-sink at port 25 of an address, with more flags, and gives the folder of what it takes: a file for each
// message.
func (s *site) sink(address string, flags ...string) string {
	s.t.Helper()
	dir := s.openDir("sink")
	s.give("nobody", dir)
	argv := append([]string{"smtp-sink", "-u", "nobody", "-h", "mail.peer.example", "-d", dir + "/mail."}, flags...)
	p := s.daemon("smtp-sink", func() error { return s.dial(address + ":25") }, append(argv, address+":25", "100")...)
	s.t.Cleanup(p.Kill) // before its folder goes
	return dir
}

// taken waits for a message at a sink and gives it, with line ends as it was sent.
func (s *site) taken(dir string) (text string) {
	s.t.Helper()
	proctest.Eventually(s.t, "smtp-sink has a message", func() bool {
		list, err := filepath.Glob(dir + "/mail.*")
		proctest.Check(s.t, err)
		if len(list) == 0 {
			return false
		}
		raw, err := os.ReadFile(list[0])
		proctest.Check(s.t, err)
		text = strings.ReplaceAll(string(raw), "\n", "\r\n")
		return strings.HasSuffix(strings.TrimRight(text, "\r\n"), "Hello, leaves.") // it is whole
	})
	return text
}

// leave has alice send a message elsewhere.
func (s *site) leave(to string) {
	s.t.Helper()
	s.must(s.swaks("587", "--tls", "PLAIN", password, alice, to, s.write("mail", submitted("leaves", to)))...)
}

// TestSubmittedMailLeaves follows a message from its submission through the queue to its peer, where others verify it.
func TestSubmittedMailLeaves(t *testing.T) {
	s := newSite(t)
	s.signing()
	s.more["smtp"] = "    judge: {resolver: \"127.0.0.1:53\", enforce: true}\n"
	s.startRole("gss")
	s.start()
	if list := s.queue(); len(list) != 0 {
		t.Fatalf("the queue begins with %+v", list)
	}
	const to = "user@example.net"
	s.leave(to)
	proctest.Eventually(t, "the queue tells why the message waits", func() bool {
		list := s.queue()
		if len(list) != 1 || len(list[0].Recipients) != 1 || list[0].From != alice || list[0].Recipients[0].Address != to {
			t.Fatalf("in the queue: %+v", list)
		}
		return list[0].Recipients[0].Last != "" // nobody listens
	})
	run := s.path("run-store-east")
	table := s.must(binary, "show", "queue", "--run-dir", run)
	if !strings.Contains(table, to) || !strings.Contains(table, "waiting") {
		t.Errorf("show queue does not tell of the message:\n%s", table)
	}
	dir := s.sink("127.0.0.30")
	s.must(binary, "mail", "queue", "flush", "all", "--run-dir", run)
	got := s.taken(dir)
	proctest.Eventually(t, "the queue is empty", func() bool { return len(s.queue()) == 0 })
	for _, part := range []string{"\r\nX-Mail-Args: <" + alice + ">", "\r\nX-Rcpt-Args: <" + to + ">", "\r\nDKIM-Signature: "} {
		if !strings.Contains("\r\n"+got, part) {
			t.Errorf("the sink has no %q:\n%s", part, got)
		}
	}
	if said := s.must("sh", "-c", `dkimverify <"$0"`, s.write("taken", got)); !strings.Contains(said, "signature ok") {
		t.Errorf("dkimverify says %s", said)
	}
	// our own MX verifies it too, and nothing that is not signed
	if said := s.post(alice, bob, got); said != "250 taken" {
		t.Errorf("our MX says of it: %s", said)
	}
	if said := s.post(alice, bob, strings.Replace(got, "Hello, leaves.", "Hello, forger.", 1)); said != "250 taken" {
		t.Errorf("our MX says of a changed text, which SPF still lets pass: %s", said)
	}
	forged := strings.Replace(submitted("forged", bob), alice, "boss@strict.example.com", 1)
	if said := s.post("boss@strict.example.com", bob, forged); !strings.HasPrefix(said, "550 5.7.1") {
		t.Errorf("our MX says of a forged sender, whose domain asks for refusal: %s", said)
	}
	list := s.read(bob)
	if len(list) != 2 {
		t.Fatalf("bob has %d messages, want two: %q", len(list), list)
	}
	for i, want := range []string{"dkim=pass", "dkim=fail"} {
		_, results, _ := strings.Cut(list[i], "Authentication-Results: mx.example.org")
		results, _, _ = strings.Cut(results, "\r\nX-Client-Addr:")
		for _, part := range []string{"spf=pass", want, "dmarc=pass"} {
			if !strings.Contains(results, part) {
				t.Errorf("message %d: no %s in %q", i, part, list[i])
			}
		}
	}
}

// TestFailureComesBack has the peer know no recipient: the sender is told by a report (RFC 3464).
func TestFailureComesBack(t *testing.T) {
	s := newSite(t)
	s.startRole("gss")
	s.start()
	s.sink("127.0.0.31", "-f", "RCPT", "-B", "550 5.1.1 No such user here")
	const to = "nobody@example.com"
	s.leave(to)
	var list []string
	proctest.Eventually(t, "alice has a report", func() bool {
		list = s.read(alice)
		return len(list) > 0
	})
	if len(list) != 1 {
		t.Errorf("alice has %d messages, want one report", len(list))
	}
	for _, part := range []string{
		"Return-Path: <>", "multipart/report", "report-type=delivery-status", "Final-Recipient: rfc822; " + to, "Action: failed",
		"Status: 5.1.1", "550 5.1.1 No such user here", "Subject: leaves",
	} {
		if !strings.Contains(list[0], part) {
			t.Errorf("the report has no %q:\n%s", part, list[0])
		}
	}
	if left := s.queue(); len(left) != 0 {
		t.Errorf("still in the queue: %+v", left)
	}
}
