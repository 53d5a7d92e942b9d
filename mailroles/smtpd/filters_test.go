package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/mailroles/spool"
	"anycastle/mailroles/tally"
)

// filter lets everything pass but changes messages.
type filter struct {
	client *Client // told of who comes
	change func(*Envelope)
}

func (f filter) Open(_ context.Context, client Client) (Filtering, error) {
	*f.client = client
	return f, nil
}

func (filter) Mail(context.Context, *Envelope) error { return nil }

func (filter) Rcpt(context.Context, *Envelope, Recipient) error { return nil }

func (f filter) Message(_ context.Context, env *Envelope) error {
	f.change(env)
	return nil
}

func (filter) Reset() {}

func (filter) Close() {}

// picky is a transaction that does not know everybody.
type picky struct {
	taker
	env  *Envelope
	told []string
	got  []string
}

func (p *picky) Rcpt(_ context.Context, to Recipient) error {
	p.told = append(p.told, to.Address)
	switch to.Address {
	case "nobody@example.org":
		return errUnknown
	case "busy@example.org":
		return errors.New("directory does not answer")
	}
	return nil
}

func (p *picky) Deliver(context.Context) map[string]error {
	for _, to := range p.env.To {
		p.got = append(p.got, to.Address)
	}
	return nil
}

func TestRecipientsThatFiltersAdd(t *testing.T) {
	for _, tc := range []struct {
		name, to, told, got string
		code                int
	}{
		{"none", "a@example.org", "", "a@example.org", 0},
		{"one more", "a@example.org c@example.org", "c@example.org", "a@example.org c@example.org", 0},
		{"one for another", "c@example.org", "c@example.org", "c@example.org", 0},
		{"unknown one more", "a@example.org nobody@example.org", "nobody@example.org", "a@example.org", 0},
		{"unknown for another", "nobody@example.org", "nobody@example.org", "", 550},
		{"perhaps another", "a@example.org busy@example.org", "busy@example.org", "", 451},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body, err := spool.Fill(t.TempDir(), strings.NewReader("A: b\r\n\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			s := &session{
				server: NewServer(Options{Log: slog.New(slog.DiscardHandler), Tally: &tally.Tally{}}),
				env:    &Envelope{To: []Recipient{{Address: "a@example.org"}}, Body: body},
				filters: filter{change: func(env *Envelope) {
					env.To = env.To[:0]
					for a := range strings.FieldsSeq(tc.to) {
						env.To = append(env.To, Recipient{Address: a})
					}
				}},
			}
			tx := &picky{env: s.env}
			s.tx = tx
			code := 0
			if _, err := s.deliver(); err != nil {
				code = s.refuse(err).(*smtp.SMTPError).Code
			}
			want := []any{tc.code, tc.told, tc.got}
			if diff := cmp.Diff(want, []any{code, strings.Join(tx.told, " "), strings.Join(tx.got, " ")}); diff != "" {
				t.Errorf("code, whom the transaction was told of, who got it (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFiltersHearOfTLS(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "node"), log)
	if err != nil {
		t.Fatal(err)
	}
	var seen Client
	s := NewServer(Options{
		MaxSize: 1 << 20, MaxSessions: 1, Handler: taker{}, PublicTLS: material.Public(), Log: log, Tally: &tally.Tally{},
		Filters: filter{client: &seen, change: func(*Envelope) {}},
	})
	near, far := net.Pipe()
	s.open.Go(func() { s.serve(t.Context(), s.guard(far)) })
	c, err := smtp.NewClientStartTLS(near, &tls.Config{InsecureSkipVerify: true}) // whom the client trusts is its own matter
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Noop(); err != nil {
		t.Fatal(err)
	}
	state, _ := c.TLSConnectionState()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s.open.Wait()
	want := Client{Addr: seen.Addr, Helo: "localhost", TLS: true, TLSVersion: "TLSv1.3", Cipher: tls.CipherSuiteName(state.CipherSuite)}
	if seen != want {
		t.Errorf("filters heard of %+v, want %+v", seen, want)
	}
}
