package mailroles_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/internal/config"
	"anycastle/mailroles"
	"anycastle/mailroles/milter"
)

func TestDeadMilterOfTheMX(t *testing.T) {
	s := newSite(t)
	s.runStore("lun-east")
	s.runStore("lun-west")
	s.runIMAP()
	for policy, want := range map[string]int{milter.Tempfail: 451, milter.Accept: 0} {
		cfg := s.base
		cfg.SMTP = &mailroles.SMTPConfig{}
		cfg.SMTP.SetDefaults()
		cfg.SMTP.Listen = []config.ListenAddr{s.at("smtp")}
		cfg.SMTP.Milters = []milter.Config{{Name: "none", Addr: "unix:" + filepath.Join(s.dir, "none"), Timeout: time.Minute, OnFailure: policy}}
		opt, reg := s.options(), prometheus.NewRegistry()
		opt.Registry = reg
		role, err := mailroles.NewSMTP(cfg, opt)
		stop := s.run(role, err)
		code := 0
		var reply *smtp.SMTPError
		if err := s.send("x@example.org", []string{alice}, greeting); errors.As(err, &reply) {
			code = reply.Code
		} else if err != nil {
			t.Fatal(err)
		}
		if code != want {
			t.Errorf("%s: reply %d, want %d", policy, code, want)
		}
		st := role.Status().(mailroles.SMTPStatus).Milters
		if len(st) != 1 || st[0].State != milter.StateFailing || st[0].Failures["connect"] != 1 {
			t.Errorf("%s: status %+v", policy, st)
		}
		if n, err := testutil.GatherAndCount(reg, "anycastle_smtp_milter_failures_total"); n != 1 || err != nil {
			t.Errorf("%s: %d rows of failures, %v", policy, n, err)
		}
		stop()
	}
	if got := s.mailIn(alice); len(got) != 1 {
		t.Errorf("%d messages, want the one that was let through", len(got))
	}
}
