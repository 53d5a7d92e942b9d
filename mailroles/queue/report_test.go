package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/spool"
)

// parts takes a report apart: the kinds of its parts, the fields of its message and of each recipient, and the last part.
func parts(t *testing.T, text string) (kinds []string, per []textproto.MIMEHeader, last string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" {
		t.Fatalf("report is %s, %v", kind, err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return kinds, per, last
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		body, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		kinds, last = append(kinds, p.Header.Get("Content-Type")), string(body)
		if len(kinds) == 2 {
			for block := range strings.SplitSeq(strings.TrimSpace(last), "\r\n\r\n") {
				h, err := textproto.NewReader(newBuffered(block + "\r\n\r\n")).ReadMIMEHeader()
				if err != nil {
					t.Fatal(err)
				}
				per = append(per, h)
			}
		}
	}
}

func TestFailureReport(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(string) error { return reply(550, smtp.EnhancedCode{5, 1, 1}, "No such user") }
	})
	q, _ := w.run()
	m := message{from: alice, to: to("x@a.example"), mail: smtp.MailOptions{EnvelopeID: "id 1"}}
	m.to[0].Options = smtp.RcptOptions{OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "list@b.example"}
	mustPut(t, q, m)
	empty(t, q)
	if len(w.reports()) != 1 {
		t.Fatalf("%d reports, want 1", len(w.reports()))
	}
	text := w.reports()[0].text
	kinds, per, last := parts(t, text)
	if diff := cmp.Diff([]string{"text/plain; charset=utf-8", "message/delivery-status", "message/rfc822"}, kinds); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	if last != "Received: from x by y; now\r\n"+hello {
		t.Errorf("the message came back as %q", last)
	}
	head, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if head.Header.Get("Auto-Submitted") != "auto-replied" || head.Header.Get("To") != "<"+alice+">" {
		t.Errorf("header %v", head.Header)
	}
	if len(per) != 2 || per[0].Get("Original-Envelope-Id") != "id 1" || per[0].Get("Reporting-MTA") != "dns; mail.home.example" {
		t.Fatalf("fields %v", per)
	}
	per[1].Del("Last-Attempt-Date")
	want := textproto.MIMEHeader{
		"Original-Recipient": {"rfc822; list@b.example"}, "Final-Recipient": {"rfc822; x@a.example"}, "Action": {"failed"}, "Status": {"5.1.1"},
		"Remote-Mta": {"dns; a.example"}, "Diagnostic-Code": {"smtp; 550 5.1.1 No such user"},
	}
	if diff := cmp.Diff(want, per[1]); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

// Of a large message, and of one whose sender wants no more, the header comes back.
func TestHeaderComesBack(t *testing.T) {
	long := hello + strings.Repeat("0123456789\r\n", 10_000)
	for _, tc := range []struct {
		name, text string
		ret        smtp.DSNReturn
		whole      bool
	}{
		{"small", hello, "", true}, {"small, HDRS", hello, smtp.DSNReturnHeaders, false},
		{"large", long, "", false}, {"large, FULL", long, smtp.DSNReturnFull, true}, {"no body", "Subject: x\r\n", smtp.DSNReturnHeaders, false},
		{"8-bit", "Subject: gr\xc3\xbc\r\n\r\n\xff\r\n", smtp.DSNReturnHeaders, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			q, _ := w.run()
			mustPut(t, q, message{from: alice, to: to("x@a.example"), text: tc.text, mail: smtp.MailOptions{Return: tc.ret}})
			empty(t, q)
			kinds, _, last := parts(t, w.reports()[0].text)
			head, _, _ := strings.Cut(tc.text, "\r\n\r\n")
			want, kind := "Received: from x by y; now\r\n"+strings.TrimSuffix(head, "\r\n")+"\r\n", "text/rfc822-headers"
			if tc.whole {
				want, kind = "Received: from x by y; now\r\n"+tc.text, "message/rfc822"
			}
			if kinds[2] != kind || last != want {
				t.Errorf("%s came back as %.200q, %d bytes; want %s of %d", kinds[2], last, len(last), kind, len(want))
			}
		})
	}
}

// What we found out ourselves is not said to be a server's reply.
func TestReportOnWhatNoServerSaid(t *testing.T) {
	w := newWorld(t)
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("x@none.example")})
	empty(t, q)
	_, per, _ := parts(t, w.reports()[0].text)
	if got := per[1].Get("Diagnostic-Code"); got != "x-anycastle; There is no domain none.example" || per[1].Get("Remote-MTA") != "" {
		t.Errorf("fields %v", per[1])
	}
}

func TestWhoIsTold(t *testing.T) {
	dsn := func(h *host) { h.EnableDSN = true }
	plain := func(h *host) {}
	refuse := func(h *host) {
		h.EnableDSN = true
		h.rcpt = func(string) error { return reply(550, smtp.EnhancedCode{5, 1, 1}, "No") }
	}
	const S, F, N, D = smtp.DSNNotifySuccess, smtp.DSNNotifyFailure, smtp.DSNNotifyNever, smtp.DSNNotifyDelayed
	for _, tc := range []struct {
		name   string
		from   string
		host   func(*host)
		notify []smtp.DSNNotify
		want   string // kind of the report; empty for none
	}{
		{"success, and the host tells", alice, dsn, []smtp.DSNNotify{S}, ""},
		{"success, and the host does not tell", alice, plain, []smtp.DSNNotify{S, F}, "relayed"},
		{"success that nobody asked for", alice, plain, nil, ""},
		{"failure", alice, refuse, nil, "failed"},
		{"failure, asked for", alice, refuse, []smtp.DSNNotify{F}, "failed"},
		{"failure, never", alice, refuse, []smtp.DSNNotify{N}, ""},
		{"failure, only success asked for", alice, refuse, []smtp.DSNNotify{S, D}, ""},
		{"failure of a report", "", refuse, nil, ""},
		{"success of a report", "", plain, []smtp.DSNNotify{S}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, "a.example. A 192.0.2.1")
			h := w.serve("192.0.2.1:25", tc.host)
			q, _ := w.run()
			m := message{from: tc.from, to: to("x@a.example"), mail: smtp.MailOptions{EnvelopeID: "e=1", Return: smtp.DSNReturnHeaders}}
			m.to[0].Options.Notify = tc.notify
			m.to[0].Options.OriginalRecipientType, m.to[0].Options.OriginalRecipient = smtp.DSNAddressTypeRFC822, "o+1@a.example"
			mustPut(t, q, m)
			empty(t, q)
			got := ""
			for _, r := range w.reports() {
				_, per, _ := parts(t, r.text)
				got += per[1].Get("Action")
			}
			if got != tc.want {
				t.Errorf("reports %q, want %q", got, tc.want)
			}
			for _, l := range h.got() {
				passed := h.EnableDSN && slices.Equal(l.rcpt.Notify, tc.notify) && l.mail.EnvelopeID == "e=1" &&
					l.mail.Return == smtp.DSNReturnHeaders && l.rcpt.OriginalRecipient == "o+1@a.example"
				if passed != h.EnableDSN {
					t.Errorf("options at the host: %+v %+v", l.mail, l.rcpt)
				}
			}
		})
	}
}

// A report to somewhere else goes there by way of the queue; nobody is told when that fails.
func TestReportToAnotherSite(t *testing.T) {
	w := newWorld(t, "sender.example. A 192.0.2.9")
	h := w.serve("192.0.2.9:25", nil)
	q, _ := w.run()
	mustPut(t, q, message{from: "s@sender.example", to: to("x@none.example")})
	mustPut(t, q, message{from: "s@none.example", to: to("x@none.example")})
	empty(t, q)
	if got := h.got(); len(got) != 1 || got[0].from != "" || got[0].to != "s@sender.example" || !strings.Contains(got[0].text, "Action: failed") {
		t.Errorf("the sender's host got %+v", got)
	}
	if s := q.Summary(); s.Bounced["no-domain"] != 3 || s.Reports["failed"] != 2 {
		t.Errorf("counts %+v", s)
	}
}

func TestDelayAndExpiry(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(to string) error { return reply(450, smtp.EnhancedCode{4, 2, 1}, "Not yet") }
	})
	w.change = func(o *Options) { o.Config.DelayNotice, o.Config.Life = 100*time.Millisecond, 500*time.Millisecond }
	q, _ := w.run()
	m := message{from: alice, to: to("x@a.example", "quiet@a.example")}
	m.to[1].Options.Notify = []smtp.DSNNotify{smtp.DSNNotifyFailure}
	start := time.Now()
	mustPut(t, q, m)
	empty(t, q)
	if lived := time.Since(start); lived < 500*time.Millisecond {
		t.Errorf("given up after %v", lived)
	}
	var got []string
	for _, r := range w.reports() {
		_, per, _ := parts(t, r.text)
		for _, h := range per[1:] {
			got = append(got, strings.Join([]string{h.Get("Action"), h.Get("Status"), h.Get("Final-Recipient"), fmt.Sprint(h.Get("Will-Retry-Until") != "")}, " "))
		}
	}
	want := []string{"delayed 4.2.1 rfc822; x@a.example true", "failed 4.4.7 rfc822; x@a.example false", "failed 4.4.7 rfc822; quiet@a.example false"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
	if s := q.Summary(); s.Bounced["expired"] != 2 {
		t.Errorf("counts %+v", s)
	}
}

// What is owed is owed until it is stored, also over a restart.
func TestReportIsOwedUntilItIsStored(t *testing.T) {
	w := newWorld(t)
	w.homeErr = errors.New("mailbox is full")
	q, stop := w.run()
	mustPut(t, q, message{from: alice, to: to("x@none.example")})
	waitFor(t, "a failure", func() bool { return only(t, q).State == Failed })
	stop()
	w.mu.Lock()
	w.homeErr = nil
	w.mu.Unlock()
	q, _ = w.run()
	empty(t, q)
	if len(w.reports()) != 1 {
		t.Errorf("%d reports, want 1", len(w.reports()))
	}
}

func TestReportThatNobodyTakesIsSetAside(t *testing.T) {
	w := newWorld(t)
	w.homeErr = errors.New("mailbox is full")
	w.change = func(o *Options) { o.Config.Life = 100 * time.Millisecond }
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("x@none.example")})
	empty(t, q)
	if left := w.files(asideDir); len(left) != 2 || q.Summary().SetAside != 1 {
		t.Errorf("set aside: %v, %+v", left, q.Summary())
	}
}

func TestDelivered(t *testing.T) {
	w := newWorld(t)
	q, _ := w.run()
	body, err := spool.Fill("", strings.NewReader(hello))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	env := &smtpd.Envelope{From: alice, Tx: strings.Repeat("a", 32), Options: smtp.MailOptions{EnvelopeID: "e1"}, Body: body}
	asked := smtpd.Recipient{Address: "bob@home.example", Options: smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifySuccess}}}
	for range 2 { // a repetition of the delivery
		if err := q.Delivered(t.Context(), env, append(to("carol@home.example"), asked)); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Delivered(t.Context(), env, to("carol@home.example")); err != nil {
		t.Fatal(err)
	}
	env.From = ""
	if err := q.Delivered(t.Context(), env, []smtpd.Recipient{asked}); err != nil {
		t.Fatal(err)
	}
	if len(w.reports()) != 1 {
		t.Fatalf("%d reports, want 1", len(w.reports()))
	}
	kinds, per, last := parts(t, w.reports()[0].text)
	if len(per) != 2 || per[1].Get("Action") != "delivered" || per[1].Get("Status") != "2.0.0" || per[0].Get("Original-Envelope-Id") != "e1" ||
		per[1].Get("Final-Recipient") != "rfc822; bob@home.example" || kinds[2] != "text/rfc822-headers" || !strings.Contains(last, "Subject: hello") {
		t.Errorf("report %v %v %q", kinds, per, last)
	}
	w.mu.Lock()
	w.homeErr = errors.New("disk is full")
	w.mu.Unlock()
	env.From, env.Tx = alice, strings.Repeat("b", 32)
	if err := q.Delivered(t.Context(), env, []smtpd.Recipient{asked}); err == nil {
		t.Error("a report that is not stored is no error")
	}
}

func TestReportOnAddressBeyondASCII(t *testing.T) {
	w := newWorld(t)
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("jürgen@none.example"), mail: smtp.MailOptions{UTF8: true}})
	empty(t, q)
	kinds, per, _ := parts(t, w.reports()[0].text)
	if kinds[1] != "message/global-delivery-status" || kinds[2] != "message/global" || per[1].Get("Final-Recipient") != "utf-8; jürgen@none.example" {
		t.Errorf("report %v %v", kinds, per)
	}
	if _, err := put(t, q, message{from: alice, to: to("jürgen@none.example")}); !errors.Is(err, errNotASCII) {
		t.Errorf("without SMTPUTF8: %v", err)
	}
	if !bytes.Contains([]byte(w.reports()[0].text), []byte("\r\nContent-Transfer-Encoding: 8bit\r\n")) {
		t.Error("8-bit report is not declared")
	}
}
