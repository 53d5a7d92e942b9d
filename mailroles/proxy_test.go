package mailroles_test

import (
	"net"
	"net/netip"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"anycastle/internal/config"
	"anycastle/mailroles"
)

// behind runs an MX that has proxies in a network before it.
func (s *site) behind(proxies string) *mailroles.SMTP {
	s.t.Helper()
	cfg := s.base
	cfg.SMTP = &mailroles.SMTPConfig{}
	cfg.SMTP.SetDefaults()
	cfg.SMTP.Listen = []config.ListenAddr{s.at("smtp")}
	cfg.SMTP.Proxy.ProxyFrom = []netip.Prefix{netip.MustParsePrefix(proxies)}
	role, err := mailroles.NewSMTP(cfg, s.options())
	s.run(role, err)
	return role
}

// proxied connects, and says something before the banner is read.
func (s *site) proxied(text string) *dialog {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addrs["smtp"].String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
	return &dialog{Conn: textproto.NewConn(conn), t: s.t, raw: conn}
}

func TestTrustedProxySaysWhoTheClientIs(t *testing.T) {
	s := newSite(t)
	s.runStore("lun-east")
	s.runIMAP()
	role := s.behind("127.0.0.0/8")
	d := s.proxied("PROXY TCP4 192.0.2.7 203.0.113.10 4242 25\r\n")
	d.expect(220)
	d.say(250, "EHLO client.example.org")
	d.envelope()
	d.say(354, "DATA")
	d.say(250, strings.TrimSuffix(greeting, "\r\n")+"\r\n.")
	if got := s.mailIn(alice); len(got) != 1 || !strings.Contains(got[0], "Received: from client.example.org ([192.0.2.7])") {
		t.Errorf("mailbox holds %.300q", got)
	}
	d = s.proxied("EHLO client.example.org\r\n")
	if line, err := d.ReadLine(); err == nil {
		t.Errorf("a proxy that sends no header gets %q", line)
	}
	waitFor(t, "the refusal to be counted", func() bool {
		return role.Status().(mailroles.SMTPStatus).Rejects["proxy-header"] == 1
	})
	d = s.proxied("PROXY TCP4 192.0.2.7 203.0.113.10 4242 25\r\n")
	d.expect(220)
	d.say(250, "EHLO client.example.org")
	d.envelope()
	d.say(354, "DATA")
	order(t, role, "drain") // whose farewell comes from behind the proxy too
	waitFor(t, "the farewell", func() bool {
		return told(t, s.addrs["smtp"].String()) == "421 4.3.2 mx.example.org is going away, try another\r\n"
	})
	d.say(250, ".")
	d.expect(421)
}

func TestNobodyElseSaysWhoTheClientIs(t *testing.T) {
	s := newSite(t)
	s.runStore("lun-east")
	s.runIMAP()
	s.behind("192.0.2.0/24")
	d := s.proxied("")
	d.expect(220)
	d.say(5, "PROXY TCP4 192.0.2.7 203.0.113.10 4242 25")
	d.say(250, "EHLO client.example.org")
	d.envelope()
	d.say(354, "DATA")
	d.say(250, strings.TrimSuffix(greeting, "\r\n")+"\r\n.")
	if got := s.mailIn(alice); len(got) != 1 || !strings.Contains(got[0], "Received: from client.example.org ([127.0.0.1])") {
		t.Errorf("mailbox holds %.300q", got)
	}
}
