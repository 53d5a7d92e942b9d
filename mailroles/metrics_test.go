package mailroles_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"anycastle/internal/config"
	"anycastle/mailroles"
)

// TestLegsAreMetrics logs in twice, once with a wrong password, and looks at how often each leg was timed.
func TestLegsAreMetrics(t *testing.T) {
	s := newSite(t)
	s.runStore("lun-east")
	cfg := s.base
	cfg.IMAP = &mailroles.IMAPConfig{}
	cfg.IMAP.SetDefaults()
	cfg.IMAP.Listen = []config.ListenAddr{s.at("imap")}
	cfg.IMAP.TLSListen = []config.ListenAddr{s.at("imaps")}
	opt := s.options()
	reg := prometheus.NewRegistry()
	opt.Registry = reg
	role, err := mailroles.NewIMAP(cfg, opt)
	s.run(role, err)
	k := s.talk("imaps")
	k.write("a LOGIN " + alice + " wrong\r\nb LOGIN " + alice + " " + quoted(password) + "\r\n")
	k.expect("a NO")
	k.expect("b OK")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	timed := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != "anycastle_imap_leg_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			h := m.GetHistogram()
			timed[m.GetLabel()[0].GetValue()] = h.GetSampleCount()
			if buckets := h.GetBucket(); h.GetSampleSum() <= 0 || buckets[len(buckets)-1].GetCumulativeCount() != h.GetSampleCount() {
				t.Errorf("histogram is %v", h)
			}
		}
	}
	if len(timed) != 2 || timed["directory"] != 2 || timed["store"] != 1 {
		t.Errorf("legs were timed so often: %v", timed)
	}
}
