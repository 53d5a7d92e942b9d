package mailroles_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"anycastle/mailroles"
)

// runMX starts one more front end, and makes dialog and send go to it.
func (s *site) runMX() {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.addrs["smtp"] = netip.MustParseAddrPort(ln.Addr().String())
	s.ready[ln.Addr().String()] = ln
	s.mu.Unlock()
	s.runSMTP()
}

func TestRetryOverAnotherMXIsRecognised(t *testing.T) {
	s := newSite(t)
	s.runStore("lun-east")
	_, stopWest := s.runStore("lun-west")
	s.runSMTP()
	s.runIMAP()
	d := s.dialog(false)
	d.say(250, "MAIL FROM:<x@example.org>")
	d.say(250, "RCPT TO:<"+alice+">")
	d.say(250, "RCPT TO:<"+bob+">")
	d.say(354, "DATA")
	stopWest()
	d.say(451, greeting+".")
	checkMail(t, greeting, s.mailIn(alice))
	s.runStore("lun-west")
	s.runMX()
	if err := s.send("x@example.org", []string{alice, bob}, greeting); err != nil {
		t.Fatal(err)
	}
	checkMail(t, greeting, s.mailIn(alice)) // which had it the first time, and has it once
	checkMail(t, greeting, s.mailIn(bob))
	// another sender's message is another one
	if err := s.send("y@example.org", []string{alice}, greeting); err != nil {
		t.Fatal(err)
	}
	if n := len(s.mailIn(alice)); n != 2 {
		t.Errorf("mailbox holds %d messages, want 2", n)
	}
}

func TestLinksAreReusedAndReplaced(t *testing.T) {
	s := newSite(t)
	store, stop := s.runStore("lun-east")
	s.runSMTP()
	s.runIMAP()
	for range 5 {
		if err := s.send("x@example.org", []string{alice}, "Subject: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	if n := store.Status().(mailroles.StoreStatus).LMTP.Sessions; n != 1 {
		t.Errorf("5 messages one after the other left %d links open, want 1", n)
	}
	stop()
	s.runStore("lun-east")
	if err := s.send("x@example.org", []string{alice}, "Subject: x\r\n\r\n"); err != nil {
		t.Errorf("the link of before the restart: %v", err)
	}
	if n := len(s.mailIn(alice)); n != 6 {
		t.Errorf("mailbox holds %d messages, want 6", n)
	}
}

func TestAddressesReachTheMailbox(t *testing.T) {
	s := newSite(t)
	s.runAll()
	for _, tc := range []struct{ mail, path string }{
		{"<grüße@example.org> SMTPUTF8", "<grüße@example.org>"},
		{`<"x> ENVID=q+3D1"@example.org>`, `<"x> ENVID=q+3D1"@example.org>`}, // no parameter of the link's
		{`<"a\"b c"@example.org>`, `<"a\"b c"@example.org>`},
		{"<>", "<>"},
	} {
		d := s.dialog(true)
		d.say(250, "MAIL FROM:"+tc.mail)
		d.say(250, "RCPT TO:<"+alice+">")
		d.say(354, "DATA")
		d.say(250, greeting+".")
		got := s.mailIn(alice)
		if len(got) != 1 || !strings.HasPrefix(got[0], "Return-Path: "+tc.path+"\r\n") {
			t.Errorf("MAIL FROM:%s came as %.100q", tc.mail, got)
		}
		s.empty(alice)
	}
}

func TestForgedResultsAreTakenOff(t *testing.T) {
	s := newSite(t)
	s.runAll()
	const forged = "Authentication-Results: mx.example.org; dmarc=pass\r\n"
	if err := s.send("x@example.org", []string{alice}, "Subject: x\r\n"+forged+"To: y\r\n\r\n"+forged); err != nil {
		t.Fatal(err)
	}
	checkMail(t, "Subject: x\r\nTo: y\r\n\r\n"+forged, s.mailIn(alice))
}
