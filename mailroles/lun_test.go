package mailroles_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"anycastle/mailroles"
)

func TestLUNStatus(t *testing.T) {
	s := newSite(t)
	odd := filepath.Join(s.dir, "lun-east", alice, "cur", "a directory")
	if err := os.MkdirAll(odd, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := s.base
	cfg.Store = &mailroles.StoreConfig{}
	cfg.Store.SetDefaults()
	cfg.Store.LUN, cfg.Store.Path = "lun-east", filepath.Join(s.dir, "lun-east")
	cfg.Store.LMTPListen, cfg.Store.IMAPListen = s.at("lun-east/lmtp"), s.at("lun-east/imap")
	opt, reg := s.options(), prometheus.NewRegistry()
	opt.Registry = reg
	role, err := mailroles.NewStore(cfg, opt)
	if err != nil {
		t.Fatal(err)
	}
	if list := role.LUN().([]mailroles.LUNState); len(list) != 0 {
		t.Errorf("a store that does not run knows %+v", list)
	}
	s.run(role, err)
	s.runSMTP()
	if err := s.send("x@example.org", []string{alice}, "Subject: one\r\n\r\ntext\r\n"); err != nil {
		t.Fatal(err)
	}
	var l mailroles.LUNState
	waitFor(t, "the check to end", func() bool {
		l = role.LUN().([]mailroles.LUNState)[0]
		return !l.Check.Ended.IsZero()
	})
	if l.Name != "lun-east" || l.Mailboxes != 1 || l.Check.Mailboxes != 1 || l.Messages != 1 || l.Bytes == 0 || l.Index < 2 || l.Stopped != "" {
		t.Errorf("status is %+v", l)
	}
	if len(l.Quarantine) != 1 || l.Quarantine[0].From != alice+"/cur/a directory" || l.Quarantine[0].Reason == "" {
		t.Errorf("quarantine is %+v", l.Quarantine)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, f := range families {
		if h := f.Metric[0].Histogram; h != nil {
			counts[f.GetName()] = h.GetSampleCount()
		}
	}
	fsyncs, batches := counts["anycastle_store_log_fsync_seconds"], counts["anycastle_store_log_batch_operations"]
	if fsyncs == 0 || batches != fsyncs {
		t.Errorf("metrics are %v", counts)
	}
}
