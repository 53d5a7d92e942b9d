package smtpd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycastle/mailroles/directory"
	"anycastle/mailroles/store"
)

// oneLUN knows mailboxes a to z of a LUN, and those after "away." on another.
type oneLUN struct{}

func (oneLUN) Mailbox(_ context.Context, address string) (directory.Mailbox, error) {
	switch {
	case address == "broken@example.org":
		return directory.Mailbox{}, errors.New("directory is away")
	case strings.HasPrefix(address, "away."):
		return directory.Mailbox{Address: address, LUN: "west"}, nil
	case len(address) == len("a@example.org"):
		return directory.Mailbox{Address: strings.ToLower(address), LUN: "east"}, nil
	}
	return directory.Mailbox{}, directory.ErrUnknown
}

// fakeNotifier writes down who was told what.
type fakeNotifier struct {
	told []string
	err  error
}

func (n *fakeNotifier) Delivered(_ context.Context, env *Envelope, to []Recipient) error {
	for _, r := range to {
		n.told = append(n.told, env.From+" "+r.Address)
	}
	return n.err
}

func newStoreServer(t *testing.T, change func(*Store)) (testServer, *client, string) {
	t.Helper()
	root := t.TempDir()
	mail, err := store.Open(root, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mail.Close() })
	h := &Store{LUN: "east", Directory: oneLUN{}, Mail: mail, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(h)
	}
	s := newTestServer(func(o *Options) { o.Handler = h })
	s.link = true
	c := s.dial(t, false)
	c.expect(220)
	c.say(250, "LHLO mx.example.org")
	return s, c, root
}

// files reads the messages in a folder, "" for INBOX.
func files(t *testing.T, root, box, folder string) (texts []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, box, folder, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

func TestStoreKnowsItsMailboxes(t *testing.T) {
	_, c, _ := newStoreServer(t, nil)
	c.envelope()
	c.say(451, "RCPT TO:<nobody@example.org>") // the front end knows it already, or still
	c.say(451, "RCPT TO:<away.a@example.org>")
	c.say(451, "RCPT TO:<broken@example.org>")
	c.say(250, "RCPT TO:<a@example.org>")
}

func TestStoreKeepsTheLimits(t *testing.T) {
	limit := store.Limit{Bytes: 150}
	_, c, root := newStoreServer(t, func(s *Store) { s.Limit = func(directory.Mailbox) store.Limit { return limit } })
	c.say(250, "MAIL FROM:<x@example.org> SIZE=151")
	c.say(452, "RCPT TO:<a@example.org>")
	c.say(250, "RSET")
	c.envelope("a@example.org")
	c.data(250, plain)
	c.envelope("a@example.org")
	if text := c.data(452, plain+plain); !strings.Contains(text, "4.2.2") {
		t.Errorf("refusal says %q", text)
	}
	limit.Bytes = 50
	c.envelope()
	c.say(452, "RCPT TO:<a@example.org>")
	if got := files(t, root, "a@example.org", ""); len(got) != 1 {
		t.Errorf("INBOX holds %q", got)
	}
}

func TestStoreKeepsMailApart(t *testing.T) {
	_, c, root := newStoreServer(t, nil)
	c.say(250, "MAIL FROM:<\"x y\"@example.org> ENVID=q+3D1")
	c.say(250, "RCPT TO:<a@example.org>")
	c.data(250, "X-Quarantine: smells\r\n"+plain)
	if got := files(t, root, "a@example.org", ""); len(got) != 0 {
		t.Errorf("INBOX holds %q", got)
	}
	got := files(t, root, "a@example.org", ".Quarantine")
	if len(got) != 1 || got[0] != "Return-Path: <\"x y\"@example.org>\r\nX-Quarantine: smells\r\n"+plain {
		t.Errorf("Quarantine holds %q", got)
	}
}

func TestStoreTellsTheSenderOnce(t *testing.T) {
	n := &fakeNotifier{err: errors.New("queue is full")}
	_, c, root := newStoreServer(t, func(s *Store) { s.Notifier = n })
	for range 2 { // the second is a retry
		c.say(250, "MAIL FROM:<x@example.org> ENVID=t+3D"+strings.Repeat("0a", 16))
		c.say(250, "RCPT TO:<a@example.org> NOTIFY=SUCCESS,FAILURE")
		c.say(250, "RCPT TO:<A@example.org> NOTIFY=SUCCESS")
		c.say(250, "RCPT TO:<b@example.org> NOTIFY=FAILURE")
		c.say(250, "RCPT TO:<c@example.org>")
		c.say(354, "DATA")
		c.write(plain + ".\r\n")
		for range 4 {
			c.expect(250)
		}
	}
	if got := strings.Join(n.told, ", "); got != "x@example.org a@example.org" {
		t.Errorf("told: %s", got)
	}
	for _, box := range []string{"a@example.org", "b@example.org", "c@example.org"} {
		if got := files(t, root, box, ""); len(got) != 1 {
			t.Errorf("%s holds %d messages, want 1", box, len(got))
		}
	}
}
