package mailroles_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/internal/config"
	"anycastle/mailroles"
	"anycastle/mailroles/judge"
	"anycastle/mailroles/mtasts"
	"anycastle/mailroles/screen"
)

// runGuarded starts an MX with all that may stand before the mailboxes. DNS answers nobody.
func (s *site) runGuarded(reg *prometheus.Registry, change func(*mailroles.SMTPConfig)) *mailroles.SMTP {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { ln.Close() })
	s.addrs["https"] = netip.MustParseAddrPort(ln.Addr().String())
	s.ready[ln.Addr().String()] = ln
	cfg := s.base
	cfg.SMTP = &mailroles.SMTPConfig{}
	cfg.SMTP.SetDefaults()
	cfg.SMTP.Listen = []config.ListenAddr{s.at("smtp")}
	cfg.SMTP.Screen, cfg.SMTP.Judge, cfg.SMTP.MTASTS = &screen.Config{}, &judge.Config{}, &mtasts.ServeConfig{}
	cfg.SMTP.Screen.SetDefaults()
	cfg.SMTP.Screen.GreetDelay = 100 * time.Millisecond
	cfg.SMTP.Judge.SetDefaults()
	cfg.SMTP.Judge.Resolver, cfg.SMTP.Judge.Timeout = netip.MustParseAddrPort("127.0.0.1:1"), time.Second
	cfg.SMTP.MTASTS.Listen = s.at("https")
	cfg.SMTP.MTASTS.Policies = []mtasts.Published{
		{Domain: "example.org", Mode: mtasts.Enforce, MX: []string{"mx.example.org"}, MaxAge: time.Hour},
	}
	change(cfg.SMTP)
	opt := s.options()
	opt.Registry = reg
	role, err := mailroles.NewSMTP(cfg, opt)
	s.run(role, err)
	return role
}

func TestGuardsOfTheMX(t *testing.T) {
	s := newSite(t)
	s.runStore("lun-east")
	s.runStore("lun-west")
	s.runIMAP()
	reg := prometheus.NewRegistry()
	role := s.runGuarded(reg, func(c *mailroles.SMTPConfig) { c.Screen.MaxSessions = 1 })
	idle := func() bool { return role.Status().(mailroles.SMTPStatus).Sessions == 0 }
	waitFor(t, "the end of what asked whether it listens", idle)
	if err := s.send("x@example.net", []string{alice}, greeting); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the session", idle)
	got := s.mailIn(alice)
	if len(got) != 1 || !strings.Contains(got[0], "\r\nAuthentication-Results: mx.example.org;\r\n\tspf=temperror") {
		t.Errorf("alice has %q, want one message with what was found", got)
	}
	d := s.dialog(false)
	second, err := net.Dial("tcp", s.addrs["smtp"].String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if said, err := io.ReadAll(second); err != nil || !strings.HasPrefix(string(said), "421 4.7.1 ") {
		t.Errorf("a second session of a source that may have one: %q, %v; want 421 and the end", said, err)
	}
	d.say(221, "QUIT")
	st := role.Status().(mailroles.SMTPStatus)
	if st.Screen[screen.Passed] < 2 || st.Screen[screen.Sessions] != 1 || st.DMARC["temperror"] != 1 || len(st.MTASTS) != 1 {
		t.Errorf("status is %+v", st)
	}
	want := "# HELP anycastle_smtp_dmarc_total DMARC results since the start.\n# TYPE anycastle_smtp_dmarc_total counter\n" +
		"anycastle_smtp_dmarc_total{result=\"temperror\"} 1\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "anycastle_smtp_dmarc_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "anycastle_smtp_leg_seconds"); n != 4 || err != nil {
		t.Errorf("%d legs are timed (%v), want screen, judge, filters and store", n, err)
	}
}

func TestPolicyIsServedBesideTheMX(t *testing.T) {
	s := newSite(t)
	s.runGuarded(prometheus.NewRegistry(), func(*mailroles.SMTPConfig) {})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.addrs["https"].String()+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "mta-sts.example.org"
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if p, perr := mtasts.ParsePolicy(string(body)); err != nil || perr != nil || !p.Matches("mx.example.org") {
		t.Errorf("the policy is %d %q (%v, %v)", resp.StatusCode, body, err, perr)
	}
}
