package mailroles_test

import (
	"net"
	"net/netip"
	"os"
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

// edit changes the mailboxes file before it is read.
func (s *site) edit(old, new string) {
	s.t.Helper()
	text, err := os.ReadFile(s.base.Directory.File)
	if err != nil {
		s.t.Fatal(err)
	}
	changed := strings.Replace(string(text), old, new, 1)
	if changed == string(text) {
		s.t.Fatalf("no %q in\n%s", old, text)
	}
	if err := os.WriteFile(s.base.Directory.File, []byte(changed), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func TestQuotaIsToldAtRCPT(t *testing.T) {
	s := newSite(t)
	s.edit("lun: lun-west}", "lun: lun-west, quota: {messages: 1}}")
	s.edit("mailboxes:\n", "groups:\n  - {address: all@example.org, members: ["+alice+", "+bob+"]}\nmailboxes:\n")
	s.runAll()
	d := s.dialog(false)
	send := func(to string) {
		t.Helper()
		d.say(250, "MAIL FROM:<x@example.org>")
		d.say(250, "RCPT TO:<"+to+">")
		d.say(354, "DATA")
		d.say(250, greeting+".")
	}
	send("all@example.org")
	checkMail(t, greeting, s.mailIn(alice))
	checkMail(t, greeting, s.mailIn(bob))
	d.say(250, "MAIL FROM:<x@example.org>")
	for _, to := range []string{bob, "all@example.org"} {
		if text := d.ask(452, "RCPT TO:<"+to+">"); !strings.HasPrefix(text, "4.2.2 ") {
			t.Errorf("refusal of %s says %q", to, text)
		}
	}
	d.say(250, "RSET")
	s.empty(bob)
	send(bob)
}

func TestGroupHasTheMessageOnceInSpiteOfRetries(t *testing.T) {
	s := newSite(t)
	s.edit("mailboxes:\n", "groups:\n  - {address: all@example.org, members: ["+alice+", "+bob+"]}\nmailboxes:\n")
	s.runStore("lun-east")
	_, stopWest := s.runStore("lun-west")
	s.runSMTP()
	s.runIMAP()
	d := s.dialog(false)
	d.say(250, "MAIL FROM:<x@example.org>")
	d.say(250, "RCPT TO:<all@example.org>")
	d.say(354, "DATA")
	stopWest()
	d.say(451, greeting+".")
	d.say(250, "MAIL FROM:<x@example.org>")
	d.say(451, "RCPT TO:<all@example.org>")
	s.runStore("lun-west")
	for range 2 {
		if err := s.send("x@example.org", []string{"all@example.org"}, greeting); err != nil {
			t.Fatal(err)
		}
	}
	checkMail(t, greeting, s.mailIn(alice))
	checkMail(t, greeting, s.mailIn(bob))
}

func TestSenderIsToldOfTheDelivery(t *testing.T) {
	s := newSubmissionSite(t)
	s.base.LUNs[1].Queue, s.base.Submission = netip.AddrPort{}, nil
	s.runQueue("127.0.0.1:1")
	s.runIMAP()
	_, stop := s.runSMTP()
	offers := func() bool {
		d := s.dialog(false)
		return strings.Contains("\n"+d.offer+"\n", "\nDSN\n")
	}
	if offers() {
		t.Error("DSN is offered, and nobody makes reports for lun-west")
	}
	stop()
	s.base.LUNs[1].Queue = netip.MustParseAddrPort("127.0.0.1:1")
	s.runMX()
	if !offers() {
		t.Error("DSN is not offered")
	}
	d := s.dialog(false)
	d.say(250, "MAIL FROM:<"+alice+"> ENVID=mine RET=HDRS")
	d.say(250, "RCPT TO:<"+alice+"> NOTIFY=SUCCESS ORCPT=rfc822;meant@example.org")
	d.say(354, "DATA")
	d.say(250, greeting+".")
	var got []string
	waitFor(t, "the message and a report", func() bool { got = s.mailIn(alice); return len(got) == 2 })
	report := got[0] + got[1]
	for _, part := range []string{"Action: delivered", "Original-Envelope-Id: mine", "Original-Recipient: rfc822; meant@example.org"} {
		if !strings.Contains(report, part) {
			t.Errorf("no %q in the report:\n%s", part, report)
		}
	}
}
