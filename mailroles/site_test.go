package mailroles_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"
	"golang.org/x/crypto/argon2"

	"anycastle/internal/config"
	"anycastle/internal/mtlstest"
	"anycastle/internal/proctest"
	"anycastle/mailroles"
	"anycastle/mailroles/directory"
)

const (
	alice    = "alice@example.org" // on lun-east
	bob      = "bob@example.org"   // on lun-west
	password = "correct horse \"battery\" staple"
)

// site is a front end of each kind and two stores, on loopback.
type site struct {
	t     *testing.T
	log   *proctest.Transcript
	dir   string
	base  mailroles.Config
	addrs map[string]netip.AddrPort // of smtp, imap, imaps, and lmtp and imap of each LUN

	mu    sync.Mutex
	ready map[string]net.Listener // opened, and not yet taken by a role
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, log: &proctest.Transcript{}, dir: t.TempDir(), addrs: map[string]netip.AddrPort{}, ready: map[string]net.Listener{}}
	for _, name := range []string{"smtp", "imap", "imaps", "lun-east/lmtp", "lun-east/imap", "lun-west/lmtp", "lun-west/imap"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.addrs[name] = netip.MustParseAddrPort(ln.Addr().String())
		s.ready[ln.Addr().String()] = ln
		t.Cleanup(func() { ln.Close() })
	}
	boxes := filepath.Join(s.dir, "mailboxes.yml")
	text := "mailboxes:\n"
	for address, lun := range map[string]string{alice: "lun-east", bob: "lun-west"} {
		text += fmt.Sprintf("  - {address: %s, password: %q, lun: %s}\n", address, cheapHash(password), lun)
	}
	if err := os.WriteFile(boxes, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.base = mailroles.Config{
		Hostname:  "mx.example.org",
		Directory: directory.Config{File: boxes},
		TLS:       mtlstest.NewCA(t).Node(t, "node"),
	}
	for _, lun := range []string{"lun-east", "lun-west"} {
		s.base.LUNs = append(s.base.LUNs, mailroles.LUN{Name: lun, LMTP: s.addrs[lun+"/lmtp"], IMAP: s.addrs[lun+"/imap"]})
		if err := os.Mkdir(filepath.Join(s.dir, lun), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// cheapHash hashes with as little work as argon2id allows.
func cheapHash(password string) string {
	salt := []byte("saltsaltsaltsalt")
	b64 := base64.RawStdEncoding.EncodeToString
	return "$argon2id$v=19$m=8,t=1,p=1$" + b64(salt) + "$" + b64(argon2.IDKey([]byte(password), salt, 1, 8, 1, 32))
}

func (s *site) at(name string) config.ListenAddr {
	return config.ListenAddr{Addr: s.addrs[name].Addr(), Port: s.addrs[name].Port()}
}

// listen gives the socket that the site has open for an address, and after that opens it anew.
func (s *site) listen(ctx context.Context, network, address string) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ln, ok := s.ready[address]; ok {
		delete(s.ready, address)
		return ln, nil
	}
	return (&net.ListenConfig{}).Listen(ctx, network, address)
}

// options write to the site's log, everything there is.
func (s *site) options() mailroles.Options {
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return mailroles.Options{Log: log, Listen: s.listen}
}

// run starts a role; the returned function ends it, and waits.
func (s *site) run(role mailroles.Role, err error) (stop func()) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- role.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("run: %v", err)
		}
	})
	s.t.Cleanup(stop)
	waitFor(s.t, "the role to serve", func() bool { return role.Healthy() == nil })
	return stop
}

func (s *site) runSMTP() (*mailroles.SMTP, func()) {
	s.t.Helper()
	cfg := s.base
	cfg.SMTP = &mailroles.SMTPConfig{}
	cfg.SMTP.SetDefaults()
	cfg.SMTP.Listen = []config.ListenAddr{s.at("smtp")}
	role, err := mailroles.NewSMTP(cfg, s.options())
	return role, s.run(role, err)
}

func (s *site) runIMAP() (*mailroles.IMAP, func()) {
	s.t.Helper()
	cfg := s.base
	cfg.IMAP = &mailroles.IMAPConfig{}
	cfg.IMAP.SetDefaults()
	cfg.IMAP.Listen = []config.ListenAddr{s.at("imap")}
	cfg.IMAP.TLSListen = []config.ListenAddr{s.at("imaps")}
	role, err := mailroles.NewIMAP(cfg, s.options())
	return role, s.run(role, err)
}

func (s *site) runStore(lun string) (*mailroles.Store, func()) {
	s.t.Helper()
	cfg := s.base
	cfg.Store = &mailroles.StoreConfig{}
	cfg.Store.SetDefaults()
	cfg.Store.LUN, cfg.Store.Path = lun, filepath.Join(s.dir, lun)
	cfg.Store.LMTPListen, cfg.Store.IMAPListen = s.at(lun+"/lmtp"), s.at(lun+"/imap")
	role, err := mailroles.NewStore(cfg, s.options())
	return role, s.run(role, err)
}

// runAll starts everything.
func (s *site) runAll() {
	s.t.Helper()
	s.runStore("lun-east")
	s.runStore("lun-west")
	s.runSMTP()
	s.runIMAP()
}

var clientTLS = &tls.Config{InsecureSkipVerify: true} // the CA is the test's own

// send mails a message with STARTTLS.
func (s *site) send(from string, to []string, msg string) error {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addrs["smtp"].String())
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := smtp.NewClientStartTLS(conn, clientTLS)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	return c.SendMail(from, to, strings.NewReader(msg))
}

// login opens an IMAP session over STARTTLS.
func (s *site) login(user string, handler *imapclient.UnilateralDataHandler) *imapclient.Client {
	s.t.Helper()
	c, err := imapclient.DialStartTLS(s.addrs["imap"].String(), &imapclient.Options{TLSConfig: clientTLS, UnilateralDataHandler: handler})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if err := c.Login(user, password).Wait(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// mailIn reads all messages in INBOX.
func (s *site) mailIn(user string) []string {
	s.t.Helper()
	c := s.login(user, nil)
	defer c.Close()
	sel, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		s.t.Fatal(err)
	}
	if sel.NumMessages == 0 {
		return nil
	}
	body := &imap.FetchItemBodySection{Peek: true}
	msgs, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{body}}).Collect()
	if err != nil {
		s.t.Fatal(err)
	}
	var texts []string
	for _, m := range msgs {
		texts = append(texts, string(m.FindBodySection(body)))
	}
	return texts
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
