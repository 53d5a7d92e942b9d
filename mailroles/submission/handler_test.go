package submission

import (
	"errors"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/link"
)

// trace is what goes on top of a message that is not signed. It does not say where the client is.
var trace = regexp.MustCompile(`^Received: by mx\.example\.org with ESMTPSA id [A-Z0-9]{16};\r\n\t[^\r]+\r\n`)

func addresses(to []link.Recipient) (list []string) {
	for _, r := range to {
		list = append(list, r.Address)
	}
	return list
}

func TestMessageGoesToStoresAndToTheSendersQueue(t *testing.T) {
	s := newService(t, nil)
	c := s.as(alice)
	err := c.SendMail(alice, []string{bob, "x@example.com", staff, "X@example.net"}, strings.NewReader(greeting))
	if err != nil {
		t.Fatal(err)
	}
	var tx [3]string
	for i, want := range []struct {
		addr netip.AddrPort
		to   []string
	}{
		{luns["lun-east"].LMTP, []string{alice}},
		{luns["lun-west"].LMTP, []string{bob}}, // once, though named twice
		{luns["lun-east"].Queue, []string{"x@example.com", "X@example.net"}},
	} {
		got := s.store.at(t, want.addr)
		if diff := cmp.Diff(want.to, addresses(got.to)); diff != "" {
			t.Errorf("recipients at %s (-want +got):\n%s", want.addr, diff)
		}
		if got.From != alice || got.User != alice {
			t.Errorf("%s was told that it is from %q, sent by %q", want.addr, got.From, got.User)
		}
		head := trace.FindString(got.text)
		if got.text != head+greeting || head == "" {
			t.Errorf("%s got\n%s", want.addr, got.text)
		}
		tx[i] = got.Tx
	}
	if len(s.store.all) != 0 {
		t.Errorf("more was handed on: %+v", s.store.all)
	}
	if tx[0] != tx[1] || tx[0] == tx[2] || len(tx[0]) != 32 || len(tx[2]) != 32 {
		t.Errorf("transaction ids are %q", tx)
	}
	if got := s.tally.Counts(); got.Done != 1 || len(got.Rejects) != 0 {
		t.Errorf("counts are %+v", got)
	}
}

func TestSendersQueueIsThatOfTheUser(t *testing.T) {
	s := newService(t, nil)
	msg := strings.ReplaceAll(greeting, alice, bob)
	if err := s.as(bob).SendMail("", []string{"x@example.com"}, strings.NewReader(msg)); err != nil { // as receipts are sent
		t.Fatal(err)
	}
	if got := s.store.at(t, luns["lun-west"].Queue); got.From != "" || got.User != bob {
		t.Errorf("the queue was told that it is from %q, sent by %q", got.From, got.User)
	}
}

func TestDSNParametersArePassedOn(t *testing.T) {
	s := newService(t, nil)
	c := s.as(alice)
	if err := c.Mail(alice, &smtp.MailOptions{Return: smtp.DSNReturnHeaders, EnvelopeID: "QQ1"}); err != nil {
		t.Fatal(err)
	}
	options := smtp.RcptOptions{
		Notify:                []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyFailure},
		OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "b+b@example.org",
	}
	for _, to := range []string{bob, "x@example.com"} {
		if err := c.Rcpt(to, &options); err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.Data()
	if err == nil {
		_, err = w.Write([]byte(greeting))
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []netip.AddrPort{luns["lun-west"].LMTP, luns["lun-east"].Queue} {
		got := s.store.at(t, addr)
		if got.Options.Return != smtp.DSNReturnHeaders || got.Options.EnvelopeID != "QQ1" {
			t.Errorf("%s got %+v", addr, got.Options)
		}
		if diff := cmp.Diff(options, got.to[0].Options); diff != "" {
			t.Errorf("%s (-want +got):\n%s", addr, diff)
		}
	}
}

func TestNothingIsAcknowledgedUnlessAllHaveIt(t *testing.T) {
	for name, broken := range map[string]netip.AddrPort{
		"store": luns["lun-west"].LMTP, "queue": luns["lun-east"].Queue,
	} {
		for _, failure := range []error{errors.New("connection lost"), errUnknown} {
			s := newService(t, func(c *Config) { c.MessagesPerHour = 1 })
			to := []string{alice, bob, "x@example.com"}
			c := s.as(alice)
			if err := c.Mail(alice, nil); err != nil {
				t.Fatal(err)
			}
			for _, r := range to {
				if err := c.Rcpt(r, nil); err != nil {
					t.Fatal(err)
				}
			}
			s.store.mu.Lock()
			s.store.say = func(addr netip.AddrPort, _ link.Recipient) error {
				if addr == broken {
					return failure
				}
				return nil
			}
			s.store.mu.Unlock()
			w, err := c.Data()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(greeting)); err != nil {
				t.Fatal(err)
			}
			expect(t, name+" broken", w.Close(), 451, smtp.EnhancedCode{4, 3, 0})
			first := s.store.at(t, luns["lun-east"].LMTP)
			queued := s.store.at(t, luns["lun-east"].Queue)

			// the message comes again, and those who have it know it; it counts once
			s.store.mu.Lock()
			s.store.say = nil
			s.store.mu.Unlock()
			if err := c.SendMail(alice, to, strings.NewReader(greeting)); err != nil {
				t.Fatal(err)
			}
			if again := s.store.at(t, luns["lun-east"].LMTP); again.Tx != first.Tx || again.Tx == "" {
				t.Errorf("the store cannot know it: %q and then %q", first.Tx, again.Tx)
			}
			if again := s.store.at(t, luns["lun-east"].Queue); again.Tx != queued.Tx || again.Tx == "" {
				t.Errorf("the queue cannot know it: %q and then %q", queued.Tx, again.Tx)
			}
		}
	}
}

func TestMessageThatNobodyWillEverTakeIsRefused(t *testing.T) {
	large := &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: "Max message size exceeded"}
	full := &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "Mailbox is full"}
	away := errors.New("connection lost")
	for _, tc := range []struct {
		name         string
		store, queue error
		code         int
		enhanced     smtp.EnhancedCode
	}{
		{"too large for both", large, large, 552, smtp.EnhancedCode{5, 3, 4}},
		{"too large for one", large, nil, 451, smtp.EnhancedCode{4, 3, 0}},
		{"too large for one, and who knows", large, away, 451, smtp.EnhancedCode{4, 3, 0}},
		{"too large for one, and later for the other", large, full, 451, smtp.EnhancedCode{4, 3, 0}},
	} {
		s := newService(t, nil)
		c := s.as(alice)
		err := errors.Join(c.Mail(alice, nil), c.Rcpt(bob, nil), c.Rcpt("x@example.com", nil))
		if err != nil {
			t.Fatal(err)
		}
		s.store.mu.Lock()
		s.store.say = func(addr netip.AddrPort, _ link.Recipient) error {
			if addr == luns["lun-west"].LMTP {
				return tc.store
			}
			return tc.queue
		}
		s.store.mu.Unlock()
		w, err := c.Data()
		if err == nil {
			_, err = io.WriteString(w, greeting)
		}
		if err != nil {
			t.Fatal(err)
		}
		expect(t, tc.name, w.Close(), tc.code, tc.enhanced)
	}
}

func TestOneMessageToEachByItselfIsMeant(t *testing.T) {
	s := newService(t, nil)
	c := s.as(alice)
	send := func(msg, to string) handed {
		t.Helper()
		if err := c.SendMail(alice, []string{to}, strings.NewReader(msg)); err != nil {
			t.Fatal(err)
		}
		return s.store.at(t, luns["lun-east"].Queue)
	}
	if a, b := send(greeting, "a@example.com"), send(greeting, "b@example.com"); a.Tx == b.Tx {
		t.Error("the queue would take the second for the first")
	}
	// without Message-ID two messages may be alike, and both meant
	if got := send(strings.Replace(greeting, "Message-ID: <1@example.org>\r\n", "", 1), "a@example.com"); got.Tx != "" {
		t.Errorf("transaction id is %q, want none", got.Tx)
	}
}

func TestOnlyWhoIsLoggedInSends(t *testing.T) {
	s := newService(t, nil)
	expect(t, "nobody", s.dial().Mail(alice, nil), 530, smtp.EnhancedCode{5, 7, 0})
	c := s.as(alice)
	for _, from := range []string{"ALICE@Example.ORG", "sales@example.net"} {
		expect(t, from, errors.Join(c.Mail(from, nil), c.Reset()), 0, smtp.EnhancedCode{})
	}
	expect(t, "bob", c.Mail(bob, nil), 553, smtp.EnhancedCode{5, 7, 1})
	expect(t, "a stranger", c.Mail("x@example.com", nil), 553, smtp.EnhancedCode{5, 7, 1})
	rejects := s.tally.Counts().Rejects
	if rejects["not-logged-in"] != 1 || rejects["sender"] != 2 {
		t.Errorf("rejects are %v", rejects)
	}
}

func TestAuthorsBelongToTheUser(t *testing.T) {
	const own, other = alice, bob
	long := strings.Repeat("X-Long: "+strings.Repeat("x", 990)+"\r\n", 300)
	for _, tc := range []struct {
		name, head string
		code       int
		enhanced   smtp.EnhancedCode
	}{
		{"own", "From: " + own, 0, smtp.EnhancedCode{}},
		{"own, two", "From: A <" + own + ">, sales@example.net", 0, smtp.EnhancedCode{}},
		{"own, folded", "From: A\r\n <" + own + ">", 0, smtp.EnhancedCode{}},
		{"own, strange charset", "From: =?windows-1250?Q?P=F8=EDklad?= <" + own + ">", 0, smtp.EnhancedCode{}},
		{"own, raw 8-bit name", "From: \"\xfc\" <" + own + ">", 0, smtp.EnhancedCode{}},
		{"own, raw UTF-8 name", "From: \u00fc <" + own + ">", 0, smtp.EnhancedCode{}},
		{"own sender", "From: " + own + "\r\nSender: sales@example.net", 0, smtp.EnhancedCode{}},
		{"another's", "From: " + other, 550, smtp.EnhancedCode{5, 7, 1}},
		{"another's too", "From: " + own + ", " + other, 550, smtp.EnhancedCode{5, 7, 1}},
		{"another's under an own name", `From: "` + own + `" <` + other + ">", 550, smtp.EnhancedCode{5, 7, 1}},
		{"another's in a group", "From: us: " + own + ", " + other + ";", 550, smtp.EnhancedCode{5, 7, 1}},
		{"another's sender", "From: " + own + "\r\nSender: " + other, 550, smtp.EnhancedCode{5, 7, 1}},
		{"odd spelling of the field", "fRoM \t: " + other, 550, smtp.EnhancedCode{5, 7, 1}},
		{"two fields", "From: " + own + "\r\nFrom: " + own, 554, smtp.EnhancedCode{5, 6, 0}},
		{"two senders", "From: " + own + "\r\nSender: " + own + "\r\nSender: " + own, 554, smtp.EnhancedCode{5, 6, 0}},
		{"none", "Subject: x", 554, smtp.EnhancedCode{5, 6, 0}},
		{"nobody", "From: us:;", 554, smtp.EnhancedCode{5, 6, 0}},
		{"no address", "From: x", 554, smtp.EnhancedCode{5, 6, 0}},
		{"no field", "From: " + own + "\r\nFrom the start", 554, smtp.EnhancedCode{5, 6, 0}},
		{"goes on with nothing", " From: " + own, 554, smtp.EnhancedCode{5, 6, 0}},
		{"endless", "From: " + own + "\r\n" + long, 554, smtp.EnhancedCode{5, 6, 0}},
	} {
		s := newService(t, nil)
		err := s.as(alice).SendMail(alice, []string{bob}, strings.NewReader(tc.head+"\r\n\r\nHello.\r\n"))
		expect(t, tc.name, err, tc.code, tc.enhanced)
		if n := len(s.store.all); (n == 0) == (tc.code == 0) {
			t.Errorf("%s: %d messages were handed on", tc.name, n)
		}
		if n := s.tally.Counts().Rejects["policy"]; tc.code == 550 && n != 1 {
			t.Errorf("%s: %d refusals by policy were counted", tc.name, n)
		}
	}
}

func TestRecipients(t *testing.T) {
	s := newService(t, func(c *Config) { c.MaxRecipients = 3 })
	c := s.as(alice)
	if err := c.Mail(alice, nil); err != nil {
		t.Fatal(err)
	}
	expect(t, "unknown", c.Rcpt("nobody@Example.ORG", nil), 550, smtp.EnhancedCode{5, 1, 1})
	expect(t, "not from her", c.Rcpt(board, nil), 550, smtp.EnhancedCode{5, 7, 1})
	s.store.say = func(netip.AddrPort, link.Recipient) error {
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "Mailbox is full"}
	}
	expect(t, "full", c.Rcpt(bob, nil), 452, smtp.EnhancedCode{4, 2, 2})
	s.store.say = func(netip.AddrPort, link.Recipient) error { return errors.New("away") }
	expect(t, "store is away", c.Rcpt(bob, nil), 451, smtp.EnhancedCode{4, 3, 0})
	s.people.err = errors.New("directory is away")
	expect(t, "directory is away", c.Rcpt(bob, nil), 451, smtp.EnhancedCode{4, 3, 0})
	s.people.err, s.store.say = nil, nil
	for _, to := range []string{bob, "x@example.com", `"a b"@example.com`} {
		expect(t, to, c.Rcpt(to, nil), 0, smtp.EnhancedCode{})
	}
	expect(t, "one too many", c.Rcpt("y@example.com", nil), 452, smtp.EnhancedCode{4, 5, 3})
}

func TestLimits(t *testing.T) {
	s := newService(t, func(c *Config) { c.MessagesPerHour = 3 })
	c := s.as(alice)
	expect(t, "declared size", c.Mail(alice, &smtp.MailOptions{Size: 1<<20 + 1}), 552, smtp.EnhancedCode{5, 3, 4})
	err := c.SendMail(alice, []string{bob}, strings.NewReader(greeting+strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1<<20/72)))
	expect(t, "size", err, 552, smtp.EnhancedCode{5, 3, 4})
	for range 10 { // what comes to nothing does not count
		expect(t, "abandoned", c.Mail(alice, nil), 0, smtp.EnhancedCode{})
		expect(t, "reset", c.Reset(), 0, smtp.EnhancedCode{})
	}
	for range 3 {
		expect(t, "within the rate", c.SendMail(alice, []string{bob}, strings.NewReader(greeting)), 0, smtp.EnhancedCode{})
	}
	expect(t, "above the rate", c.Mail(alice, nil), 450, smtp.EnhancedCode{4, 7, 1})
	expect(t, "in another session", s.as(alice).Mail(alice, nil), 450, smtp.EnhancedCode{4, 7, 1})
	expect(t, "another account", s.as(bob).Mail(bob, nil), 0, smtp.EnhancedCode{})
}
