package client

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"
)

func TestMessagesAreToldFromEvents(t *testing.T) {
	at := time.Now()
	events := []Event{
		{Kind: KindVIP, OK: true},
		{Kind: KindMail, ID: "b", To: "bob@example.org", Start: at.Add(time.Second), Code: 451},
		{Kind: KindSubmit, ID: "a", To: "alice@example.org", LUN: "lun-east", Start: at, Unknown: true},
		{Kind: KindMail, ID: "b", To: "bob@example.org", Start: at.Add(2 * time.Second)}, // refused connection
		{Kind: KindSubmit, ID: "a", To: "alice@example.org", Start: at.Add(3 * time.Second), End: at.Add(4 * time.Second), OK: true},
	}
	got := Messages(events)
	if len(got) != 2 || got[0].ID != "a" || got[1].ID != "b" {
		t.Fatalf("%+v", got)
	}
	if a := got[0]; a.Kind != KindSubmit || a.LUN != "lun-east" || a.Attempts != 2 || a.Unknown != 1 || a.Deferred != 0 || !a.Acknowledged.Equal(at.Add(4*time.Second)) {
		t.Errorf("%+v", a)
	}
	if b := got[1]; b.Attempts != 2 || b.Deferred != 1 || b.Unknown != 0 || !b.Acknowledged.IsZero() {
		t.Errorf("%+v", b)
	}
}

func TestJudgement(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		m      Message
		copies int
		want   string
	}{
		"there":                                {Message{Acknowledged: now}, 1, ""},
		"lost":                                 {Message{Acknowledged: now, Unknown: 1}, 0, "lost"},
		"never acknowledged, and not there":    {Message{Unknown: 1}, 0, ""},
		"never acknowledged, and there":        {Message{Unknown: 1}, 1, ""},
		"doubled":                              {Message{Acknowledged: now}, 2, "doubled"},
		"doubled although it was refused":      {Message{Acknowledged: now, Deferred: 3}, 2, "doubled"},
		"doubled after an attempt without end": {Message{Acknowledged: now, Unknown: 1}, 2, "after unknown"},
		"more often than it was tried":         {Message{Acknowledged: now, Unknown: 1}, 3, "doubled"},
	} {
		r := judge([]Message{c.m}, map[string]int{key(c.m): c.copies})
		got := ""
		switch {
		case len(r.Lost) == 1:
			got = "lost"
		case len(r.Doubled) == 1:
			got = "doubled"
		case len(r.DoubledAfterUnknown) == 1:
			got = "after unknown"
		}
		if got != c.want || len(r.Lost)+len(r.Doubled)+len(r.DoubledAfterUnknown) > 1 || r.Acknowledged+r.Unacknowledged != 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// Mail under load to a server that loses one message, keeps another twice, and cuts off the answer of a third: each is found.
func TestWhatTheServerDidIsReadBack(t *testing.T) {
	server, trusting := certificates(t)
	alice, bob := account("alice"), account("bob")
	o := newOffice(t, server, alice, bob)
	o.judge = func(n int) treatment {
		switch n {
		case 3:
			return treatment{keep: 0}
		case 5:
			return treatment{keep: 2}
		case 7:
			return treatment{keep: 1, silent: true}
		case 9:
			return treatment{err: &smtp.SMTPError{Code: 451, Message: "later"}}
		}
		return treatment{keep: 1}
	}
	cfg := Config{TLS: trusting, Every: time.Second, MailEvery: 30 * time.Millisecond, Targets: onePod(o.pod(alice, bob))}
	l, stop := startLoad(t, cfg)
	l.awaitThat(t, "enough mail", func(Event) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.seen > 20
	})
	stop()
	messages := Messages(l.all())
	r, err := ReadBack(t.Context(), cfg, messages, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Lost) != 1 || len(r.Doubled) != 1 || len(r.DoubledAfterUnknown) != 1 || r.Acknowledged < 15 {
		t.Fatalf("%+v", r)
	}
	if x := r.Lost[0]; x.Copies != 0 || x.Acknowledged.IsZero() || x.LUN == "" || x.To == "" || x.Pod != "1" {
		t.Errorf("lost %+v", x)
	}
	if x := r.DoubledAfterUnknown[0]; x.Copies != 2 || x.Unknown != 1 || x.Attempts < 2 {
		t.Errorf("doubled %+v", x)
	}
}

// What is missing at first is waited for.
func TestReadBackIsPatient(t *testing.T) {
	server, trusting := certificates(t)
	alice := account("alice")
	o := newOffice(t, server, alice)
	cfg := Config{TLS: trusting, Targets: onePod(o.pod(alice))}
	m := []Message{{ID: "late@example.net", To: alice.Address, Acknowledged: time.Now()}}
	done := make(chan error, 1)
	go func() {
		text := strings.NewReader("Message-ID: <late@example.net>\r\n\r\nhere\r\n")
		_, err := o.users[alice.Address].Append("INBOX", sized{text}, &imap.AppendOptions{})
		done <- err
	}()
	if r, err := ReadBack(t.Context(), cfg, m, time.Minute); err != nil || len(r.Lost) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	cfg.Pods[0].Mailboxes[0].Password = "wrong"
	if _, err := ReadBack(t.Context(), cfg, m, 0); err == nil || !strings.Contains(err.Error(), "log in") {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ReadBack(ctx, cfg, m, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

type sized struct{ *strings.Reader }

func (s sized) Size() int64 { return s.Reader.Size() }

func TestRoundTripBothWays(t *testing.T) {
	server, trusting := certificates(t)
	alice := account("alice")
	o := newOffice(t, server, alice)
	cfg := Config{TLS: trusting, Targets: onePod(o.pod(alice))}
	for range 2 { // through IMAPS, then with STARTTLS
		if n, err := RoundTrip(t.Context(), cfg, cfg.Pods[0], alice, 100_000); err != nil || n < 100_000 {
			t.Errorf("%d bytes, %v", n, err)
		}
		cfg.Pods[0].IMAPS = netip.AddrPort{}
	}
	o.judge = func(int) treatment { return treatment{} }
	if _, err := RoundTrip(t.Context(), cfg, cfg.Pods[0], alice, 100); err == nil || !strings.Contains(err.Error(), "not in the mailbox") {
		t.Errorf("error is %v", err)
	}
}
