package main

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"anycastle/rhi"

	"github.com/google/go-cmp/cmp"
)

func TestSentIsLaidOut(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	list := []rhi.Sent{
		{Prefix: netip.MustParsePrefix("203.0.113.10/32"), Peer: "core", Group: "default", Sent: "withdrawn", At: at,
			Decided: at.Add(-time.Millisecond), Written: at.Add(200 * time.Microsecond), Acknowledged: at.Add(41 * time.Millisecond), Why: "no real passes"},
		{Prefix: netip.MustParsePrefix("203.0.113.11/32"), Peer: "isp a", Group: "isp", Sent: "prepend 3", At: at, Written: at.Add(time.Millisecond)},
	}
	dir := serveRole(t, "rhi", "GET /v1/sent", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(list) })
	want := `PREFIX           PEER   GROUP    SENT       AGO   WRITTEN AFTER  ACKNOWLEDGED AFTER  WHY
203.0.113.10/32  core   default  withdrawn  1m0s  1.2ms          42ms                no real passes
203.0.113.11/32  isp a  isp      prepend 3  1m0s  1ms            -                   -
`
	if code, out, errs := outcome(t, "show", "sent", "--run-dir", dir); code != 0 || cmp.Diff(want, out) != "" {
		t.Errorf("exit %d, %q (-want +got):\n%s", code, errs, cmp.Diff(want, out))
	}
}
