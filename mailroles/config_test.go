package mailroles_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/mailroles"
)

// nodeFile is a whole mail section; words in capitals are replaced.
const nodeFile = `mail:
  hostname: mx1.example.org
  directory: DIR/mailboxes.yml
  tls: {cert: CERT, key: KEY, ca: CA}
  luns:
    - {name: lun-east, lmtp: 198.51.100.19:2424, imap: 198.51.100.19:1993, queue: 198.51.100.19:2425}
    - {name: lun-west, lmtp: 198.51.100.29:2424, imap: 198.51.100.29:1993, queue: 198.51.100.29:2425}
  smtp: {listen: [":25", "192.0.2.1:2525"], milters: [{name: rspamd, addr: "127.0.0.1:11332", on_failure: accept}]}
  imap:
    tls_listen: [":993"]
  store: {lun: lun-east, path: DIR}
  submission: {messages_per_hour: 50}
`

func decode(t *testing.T, text string) (mailroles.Config, error) {
	t.Helper()
	doc, err := config.Parse("node.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var c mailroles.Config
	c.Validate(doc.Decode("mail", &c))
	return c, doc.Err()
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	ca := mtlstest.NewCA(t)
	node, other := ca.Node(t, "node"), ca.Node(t, "other")
	boxes := "mailboxes:\n  - {address: a@example.org, password: '" + cheapHash("x") + "', lun: lun-east}\n"
	for name, text := range map[string]string{"mailboxes.yml": boxes, "dangling.yml": strings.ReplaceAll(boxes, "lun-east", "lun-south")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := strings.NewReplacer("DIR", dir, "CERT", node.Cert, "KEY", node.Key, "CA", node.CA).Replace(nodeFile)
	c, err := decode(t, good)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.SMTP.Listen[0].String() + " " + c.SMTP.Listen[1].String() + " " + c.IMAP.Listen[0].String() + " " + c.Store.LMTPListen.String(); got != ":25 192.0.2.1:2525 :143 :2424" {
		t.Errorf("listens on %s", got)
	}
	if c.SMTP.MaxSize != 52428800 || c.SMTP.MaxSessions != 1000 || c.IMAP.MaxSessions != 10000 {
		t.Errorf("defaults: %+v %+v", c.SMTP, c.IMAP)
	}
	if s := c.Submission; s.MessagesPerHour != 50 || s.TLSListen[0].String() != ":465" {
		t.Errorf("submission: %+v", s)
	}
	for _, tc := range []struct{ name, old, new, want string }{
		{"two LUNs of a name", "name: lun-west", "name: lun-east", `node.yml:7: mail.luns[1].name: two LUNs are called "lun-east"`},
		{"store's LUN", "lun: lun-east, path", "lun: lun-north, path", `node.yml:11: mail.store.lun: no LUN is called "lun-north"; known are lun-east, lun-west`},
		{"store's path", "path: " + dir, "path: " + dir + "/none", "node.yml:11: mail.store.path:"},
		{"no such certificate", node.Cert, dir + "/none.pem", "node.yml:4: mail.tls.cert:"},
		{"another's key", node.Key, other.Key, "node.yml:4: mail.tls.key: tls: private key does not match"},
		{"no CA", "ca: " + node.CA, "ca: " + node.Key, "node.yml:4: mail.tls.ca:"},
		{"no key for clients", "  tls:", "  public_tls: {cert: " + node.Cert + "}\n  tls:", "node.yml:4: mail.public_tls.key: missing"},
		{"another's key for clients", "  tls:", "  public_tls: {cert: " + node.Cert + ", key: " + other.Key + "}\n  tls:", "node.yml:4: mail.public_tls.key: tls: private key"},
		{"no mailboxes file", "mailboxes.yml", "none.yml", "node.yml:3: mail.directory:"},
		{"mailbox on no LUN", "mailboxes.yml", "dangling.yml", `dangling.yml:2: mailboxes[0].lun: no LUN is called "lun-south"`},
		{"port", `":25"`, `":smtp"`, `node.yml:8: mail.smtp.listen[0]: ":smtp" is not where to listen, such as ":25"`},
		{"same port twice", `":993"`, `":143"`, "node.yml:9: mail.imap.listen: :143 is there twice"},
		{"size", `smtp: {`, `smtp: {max_size: 5, `, "node.yml:8: mail.smtp.max_size: 5 must be from 65536"},
		{"milter", "127.0.0.1:11332", "11332", `node.yml:8: mail.smtp.milters[0].addr: "11332" is not where a milter listens`},
		{"screen", "smtp: {", "smtp: {screen: {per_minute: 0}, ", "node.yml:8: mail.smtp.screen.per_minute: 0 must be from 1"},
		{"block list", "smtp: {", "smtp: {screen: {dnsbl: {lists: [{zone: bl}]}}, ", `mail.smtp.screen.dnsbl.lists[0].zone: "bl" is no domain name`},
		{"judge", "smtp: {", "smtp: {judge: {timeout: 1ms}, ", "node.yml:8: mail.smtp.judge.timeout: 1ms must be from 1s"},
		{"policy", "smtp: {", "smtp: {mta_sts: {policies: [{domain: example.org}]}, ", "node.yml:8: mail.smtp.mta_sts.policies[0]: policy names no mx"},
		{"submission's milter", "{messages", "{milters: [{name: x, addr: y}], messages", `mail.submission.milters[0].addr: "y" is not where`},
		{"proxies of everybody", "smtp: {", "smtp: {proxy_from: [0.0.0.0/0], ", "node.yml:8: mail.smtp.proxy_from[0]: 0.0.0.0/0 would let everybody"},
		{"proxies askew", "imap:\n", "imap:\n    proxy_from: [192.0.2.1/24]\n", "node.yml:10: mail.imap.proxy_from[0]: 192.0.2.1/24 has bits behind its length; write 192.0.2.0/24"},
		{"proxies in IPv6 dress", "smtp: {", "smtp: {proxy_from: ['::ffff:192.0.2.0/120'], ", "node.yml:8: mail.smtp.proxy_from[0]: ::ffff:192.0.2.0/120 matches nobody; write 192.0.2.0/24"},
		{"no proxy", "smtp: {", "smtp: {proxy_from: [proxy1], ", "node.yml:8: mail.smtp.proxy_from[0]:"},
		{"lead of a drain", "smtp: {", "smtp: {drain_lead: 1h, ", "node.yml:8: mail.smtp.drain_lead: 1h0m0s must be"},
		{"deadline of a drain", "imap:\n", "imap:\n    drain_deadline: 0s\n", "node.yml:10: mail.imap.drain_deadline: 0s must be"},
		{"drain of a store", "store: {", "store: {drain_deadline: 2h, ", "node.yml:11: mail.store.drain_deadline: 2h0m0s must be"},
		{"unknown key", "tls_listen", "tls_listn", `did you mean "tls_listen"?`},
		{"LUN without a queue", ", queue: 198.51.100.29:2425", "", "node.yml:7: mail.luns[1].queue: missing; write where"},
		{"submission's port twice", "{messages", `{tls_listen: [":587"], messages`, "node.yml:12: mail.submission.listen: :587 is there twice"},
		{"submission's size", "{messages", "{max_size: 5, messages", "node.yml:12: mail.submission.max_size: 5 must be from 65536"},
		{"submission's rate", "hour: 50", "hour: 0", "node.yml:12: mail.submission.messages_per_hour: 0 must be from 1"},
		{"queue on another's port", "store: {", "store: {queue_listen: \":2424\", ", "node.yml:11: mail.store.queue_listen: is the same as another"},
		{"queue's times", "store: {", "store: {queue: {life: 1s}, ", "node.yml:11: mail.store.queue.life: 1s must be from retry_min"},
		{"host name", "hostname: mx1.example.org", "hostname: two words", "node.yml:2: mail.hostname:"},
	} {
		text := strings.Replace(good, tc.old, tc.new, 1)
		if text == good {
			t.Fatalf("%s: nothing to replace", tc.name)
		}
		if _, err := decode(t, text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	c.SMTP = nil
	if _, err := mailroles.NewSMTP(c, mailroles.Options{}); err == nil {
		t.Error("smtp role without a section")
	}
	c.Submission = nil
	if _, err := mailroles.NewSubmission(c, mailroles.Options{}); err == nil {
		t.Error("submission role without a section")
	}
}

func TestLinkNeedsBothCertificates(t *testing.T) {
	s := newSite(t)
	s.runStore("lun-west")
	honest := s.base.TLS
	ca := mtlstest.NewCA(t)

	// the store's side: a front end whose certificate is of another CA
	s.runStore("lun-east")
	s.base.TLS = ca.Node(t, "stranger")
	s.base.TLS.CA = honest.CA
	_, stop := s.runSMTP()
	if err := s.send("x@example.org", []string{alice}, greeting); err == nil {
		t.Error("a store took a message from a stranger")
	}
	stop()
	// the front end's side: the store's certificate is of another CA than expected
	s.base.TLS = honest
	s.base.TLS.CA = ca.Node(t, "other").CA
	_, stop = s.runSMTP()
	if err := s.send("x@example.org", []string{alice}, greeting); err == nil {
		t.Error("message went to a store of another CA")
	}
	stop()
	s.base.TLS = honest
	s.runIMAP()
	if got := s.mailIn(alice); len(got) != 0 {
		t.Errorf("mailbox holds %q", got)
	}
}

// What clients are shown may be signed by a public CA, and of no use for a link: no store believes it.
func TestClientsAreShownAnotherCertificate(t *testing.T) {
	s := newSite(t)
	public := mtlstest.NewCA(t).Node(t, "public", x509.ExtKeyUsageServerAuth)
	text, err := os.ReadFile(public.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatal("the CA is none")
	}
	s.base.PublicTLS = &mtls.Pair{Cert: public.Cert, Key: public.Key}
	s.runAll()
	for _, addr := range []string{"imaps", "smtp"} {
		conn, err := net.Dial("tcp", s.addrs[addr].String())
		if err != nil {
			t.Fatal(err)
		}
		believes := &tls.Config{RootCAs: roots, ServerName: "mx.example.org"}
		if addr == "smtp" {
			c, err := smtp.NewClientStartTLS(conn, believes)
			if err == nil {
				err = c.SendMail("x@example.org", []string{alice}, strings.NewReader(greeting))
			}
			if err != nil {
				t.Errorf("message by verified TLS: %v", err)
			}
		} else if err := tls.Client(conn, believes).Handshake(); err != nil {
			t.Errorf("IMAP over TLS: %v", err)
		}
		conn.Close()
	}
	if got := s.mailIn(alice); len(got) != 1 {
		t.Errorf("mailbox holds %d messages, want 1", len(got))
	}
}

func TestStoreMustShowServerCertificate(t *testing.T) {
	s := newSite(t)
	ca := mtlstest.NewCA(t)
	both := ca.Node(t, "front")
	s.base.TLS = ca.Node(t, "client", x509.ExtKeyUsageClientAuth)
	s.runStore("lun-east")
	s.runStore("lun-west")
	s.base.TLS = both
	s.runSMTP()
	if err := s.send("x@example.org", []string{alice}, greeting); err == nil {
		t.Error("a front end's certificate passed for a store's")
	}
	if !strings.Contains(s.log.String(), "incompatible key usage") {
		t.Error("the log does not say why the store was refused")
	}
}

func TestSessionLimitAndMetrics(t *testing.T) {
	s := newSite(t)
	cfg := s.base
	cfg.SMTP = &mailroles.SMTPConfig{}
	cfg.SMTP.SetDefaults()
	cfg.SMTP.Listen, cfg.SMTP.MaxSessions = []config.ListenAddr{s.at("smtp")}, 1
	opt := s.options()
	reg := prometheus.NewRegistry()
	opt.Registry = reg
	role, err := mailroles.NewSMTP(cfg, opt)
	s.run(role, err)
	s.dialog(false)
	conn, err := net.Dial("tcp", s.addrs["smtp"].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer := make([]byte, 3)
	if _, err := conn.Read(answer); err != nil || string(answer) != "421" {
		t.Errorf("one too many: %q, %v; want 421", answer, err)
	}
	const want = `
# HELP anycastle_smtp_rejects_total Refusals since the start, by reason.
# TYPE anycastle_smtp_rejects_total counter
anycastle_smtp_rejects_total{reason="too-many-sessions"} 1
# HELP anycastle_smtp_sessions Sessions open now.
# TYPE anycastle_smtp_sessions gauge
anycastle_smtp_sessions 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "anycastle_smtp_sessions", "anycastle_smtp_rejects_total"); err != nil {
		t.Error(err)
	}
	if _, err := mailroles.NewSMTP(cfg, opt); err == nil {
		t.Error("metrics of two roles under one name")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := role.Run(ctx); err == nil {
		t.Error("listening twice on one address succeeded")
	}
}
