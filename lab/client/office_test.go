package client

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/xdg-go/scram"
)

// office takes mail by SMTP and shows it by IMAP. Its users' password is "NAME-lab".
type office struct {
	smtp, imaps, imap netip.AddrPort
	users             map[string]*imapmemserver.User

	mu    sync.Mutex
	seen  int                   // messages that arrived in full
	took  map[string]int        // logins by mechanism
	judge func(n int) treatment // of the n-th message; nil takes all
}

// treatment is what is done with a message.
type treatment struct {
	keep   int   // copies that go to the mailbox
	silent bool  // close the connection instead of an answer
	err    error // the answer
}

func newOffice(t *testing.T, conf *tls.Config, accounts ...Account) *office {
	t.Helper()
	o := &office{users: map[string]*imapmemserver.User{}, took: map[string]int{}}
	mem := imapmemserver.New()
	for _, a := range accounts {
		u := imapmemserver.NewUser(a.Address, a.Password)
		if err := u.Create("INBOX", nil); err != nil {
			t.Fatal(err)
		}
		mem.AddUser(u)
		o.users[a.Address] = u
	}
	quiet := log.New(io.Discard, "", 0)
	im := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return mem.NewSession(), nil, nil
		},
		TLSConfig: conf, Logger: quiet,
	})
	mx := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &visit{office: o, conn: c}, nil }))
	mx.TLSConfig, mx.Domain, mx.ErrorLog = conf, "mx.example.org", quiet
	o.smtp = o.serve(t, mx.Serve, nil)
	o.imap = o.serve(t, im.Serve, nil)
	o.imaps = o.serve(t, im.Serve, conf)
	t.Cleanup(func() { mx.Close(); im.Close() })
	return o
}

func (o *office) serve(t *testing.T, serve func(net.Listener) error, conf *tls.Config) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	if conf != nil {
		ln = tls.NewListener(ln, conf)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve(ln) // until the server is closed
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return addr
}

func (o *office) pod(accounts ...Account) Pod {
	return Pod{Pod: "1", SMTP: o.smtp, Submission: o.smtp, IMAP: o.imap, IMAPS: o.imaps, Mailboxes: accounts}
}

// visit is one SMTP session.
type visit struct {
	office *office
	conn   *smtp.Conn
	to     string
}

func (*visit) Reset()                               {}
func (*visit) Logout() error                        { return nil }
func (*visit) Mail(string, *smtp.MailOptions) error { return nil }
func (*visit) AuthMechanisms() []string             { return []string{authPlain, authSCRAM} }
func (v *visit) Rcpt(to string, _ *smtp.RcptOptions) error {
	if v.office.users[to] == nil {
		return &smtp.SMTPError{Code: 550, Message: "nobody of this name"}
	}
	v.to = to
	return nil
}

func (v *visit) Data(r io.Reader) error {
	msg, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	o := v.office
	o.mu.Lock()
	defer o.mu.Unlock()
	do := treatment{keep: 1}
	if o.judge != nil {
		do = o.judge(o.seen)
	}
	o.seen++
	for range do.keep {
		if _, err := o.users[v.to].Append("INBOX", literal{bytes.NewReader(msg)}, &imap.AppendOptions{}); err != nil {
			return err
		}
	}
	if do.silent {
		v.conn.Conn().Close()
	}
	return do.err
}

type literal struct{ *bytes.Reader }

func (l literal) Size() int64 { return l.Reader.Size() }

func (v *visit) Auth(mech string) (sasl.Server, error) {
	check := func(user, password string) error {
		if password == "" || v.office.users[user].Login(user, password) != nil {
			return errors.New("wrong password")
		}
		return nil
	}
	v.office.mu.Lock()
	v.office.took[mech]++
	v.office.mu.Unlock()
	if mech == authPlain {
		return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
	}
	server, err := scram.SHA256.NewServer(func(user string) (scram.StoredCredentials, error) {
		c, err := scram.SHA256.NewClient(user, passwordOf(user), "")
		if err != nil {
			return scram.StoredCredentials{}, err
		}
		return c.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "saltsalt", Iters: 4096})
	})
	if err != nil {
		return nil, err
	}
	return &scramServer{server.NewConversation()}, nil
}

func passwordOf(user string) string { return user[:len(user)-len("@example.org")] + "-lab" }

type scramServer struct{ talk *scram.ServerConversation }

func (s *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if s.talk.Done() {
		return nil, s.talk.Valid(), nil
	}
	step, err := s.talk.Step(string(response))
	return []byte(step), false, err
}

func account(name string) Account {
	return Account{Address: name + "@example.org", Password: name + "-lab", LUN: "lun-" + name}
}
