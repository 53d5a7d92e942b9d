package milter

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestStatusAndMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var answer []byte
		f := newFake(nil)
		f.script = func(code byte, data []byte) ([]byte, bool) {
			if code == cmdEnd {
				time.Sleep(200 * time.Millisecond)
				return answer, answer == nil
			}
			return obliging(code, data)
		}
		list := []Config{
			{Name: "rspamd", Addr: "192.0.2.1:11332", Timeout: time.Minute, OnFailure: Tempfail},
			{Name: "clamav", Addr: "unix:/run/clamav", Timeout: time.Minute, OnFailure: Accept},
		}
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			if network == "unix" {
				return nil, context.DeadlineExceeded
			}
			return f.dial(ctx, network, addr)
		}
		c := New(list, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), dial: dial})
		reg := prometheus.NewRegistry()
		if err := c.Register(reg, "smtp"); err != nil {
			t.Fatal(err)
		}
		if st := c.Status(); st[0].State != StateUnused || st[1].State != StateUnused || !st[0].Since.IsZero() {
			t.Errorf("at first: %+v", st)
		}
		s := openSession(t, c)
		defer s.Close()
		for _, answer = range [][]byte{packet(ansAccept), packet(ansReject), nil, nil, packet(ansContinue)} {
			_, _ = transact(t.Context(), s, newEnvelope(t, "", letter)) // the counts tell
		}
		st := c.Status()
		if st[0].State != StateOK || st[0].Messages != 5 || st[0].MeanSeconds != 0.2 || st[0].LastError != "end: read: EOF" {
			t.Errorf("%+v", st[0])
		}
		if st[1].State != StateFailing || st[1].Failures[stageConnect] != 5 {
			t.Errorf("%+v", st[1])
		}
		if text, err := json.Marshal(st[1]); err != nil || !strings.Contains(string(text), `"state":"failing","since":"`) {
			t.Errorf("%s %v", text, err)
		}
		want := `# HELP anycastle_smtp_milter_failures_total Failures to judge since the start, by the stage of SMTP.
# TYPE anycastle_smtp_milter_failures_total counter
anycastle_smtp_milter_failures_total{milter="clamav",stage="connect"} 5
anycastle_smtp_milter_failures_total{milter="rspamd",stage="end"} 2
# HELP anycastle_smtp_milter_up 1 unless the milter failed when it was last needed.
# TYPE anycastle_smtp_milter_up gauge
anycastle_smtp_milter_up{milter="clamav"} 0
anycastle_smtp_milter_up{milter="rspamd"} 1
# HELP anycastle_smtp_milter_verdicts_total Verdicts since the start; a message in quarantine is accepted too.
# TYPE anycastle_smtp_milter_verdicts_total counter
anycastle_smtp_milter_verdicts_total{milter="rspamd",verdict="accept"} 2
anycastle_smtp_milter_verdicts_total{milter="rspamd",verdict="reject"} 1
# HELP anycastle_smtp_milter_seconds Time to judge a whole message.
# TYPE anycastle_smtp_milter_seconds histogram
anycastle_smtp_milter_seconds_bucket{milter="clamav",le="0.01"} 0
anycastle_smtp_milter_seconds_bucket{milter="clamav",le="0.03"} 0
anycastle_smtp_milter_seconds_bucket{milter="clamav",le="0.1"} 0
anycastle_smtp_milter_seconds_bucket{milter="clamav",le="0.3"} 0
anycastle_smtp_milter_seconds_bucket{milter="clamav",le="1"} 0
anycastle_smtp_milter_seconds_bucket{milter="clamav",le="3"} 0
anycastle_smtp_milter_seconds_bucket{milter="clamav",le="10"} 0
anycastle_smtp_milter_seconds_bucket{milter="clamav",le="30"} 0
anycastle_smtp_milter_seconds_bucket{milter="clamav",le="+Inf"} 0
anycastle_smtp_milter_seconds_sum{milter="clamav"} 0
anycastle_smtp_milter_seconds_count{milter="clamav"} 0
anycastle_smtp_milter_seconds_bucket{milter="rspamd",le="0.01"} 0
anycastle_smtp_milter_seconds_bucket{milter="rspamd",le="0.03"} 0
anycastle_smtp_milter_seconds_bucket{milter="rspamd",le="0.1"} 0
anycastle_smtp_milter_seconds_bucket{milter="rspamd",le="0.3"} 5
anycastle_smtp_milter_seconds_bucket{milter="rspamd",le="1"} 5
anycastle_smtp_milter_seconds_bucket{milter="rspamd",le="3"} 5
anycastle_smtp_milter_seconds_bucket{milter="rspamd",le="10"} 5
anycastle_smtp_milter_seconds_bucket{milter="rspamd",le="30"} 5
anycastle_smtp_milter_seconds_bucket{milter="rspamd",le="+Inf"} 5
anycastle_smtp_milter_seconds_sum{milter="rspamd"} 1
anycastle_smtp_milter_seconds_count{milter="rspamd"} 5
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
		for word, n := range map[string]int{"milter fails": 2, "milter answers again": 1} {
			if got := strings.Count(log.String(), `msg="`+word+`"`); got != n {
				t.Errorf("%q is logged %d times, want %d:\n%s", word, got, n, log.String())
			}
		}
	})
}
