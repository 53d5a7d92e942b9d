package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
)

const startMonitor = `mail:
  tls: TLS
  monitor:
    listen: 198.51.100.1:9110
    targets:
      - {name: mx1, address: "198.51.100.9:25", probe: {interval: 50ms, timeout: 50ms}, labels: {kind: real}}
`

// TestMonitorRuns watches a server that is not there, and has the node file of the running monitor change.
func TestMonitorRuns(t *testing.T) {
	netnstest.Root(t)
	h := newBareHost(t, startMonitor)
	p := h.start("mail monitor", "", "", "run", nil)
	p.said(t, "msg=started role=monitor")
	run := filepath.Join(h.dir, "run")
	p.said(t, `msg="target changed" role=monitor target=mx1 address=198.51.100.9:25 old=unknown new=failing`)

	code, table, errs := outcome(t, "show", "target", "--run-dir", run)
	for _, want := range []string{"TARGET", "198.51.100.9:25", "failing", "kind=real", "connection refused"} {
		if code != 0 || !strings.Contains(table, want) {
			t.Errorf("show target has no %q: %s%s", want, table, errs)
		}
	}
	type target struct {
		Name, State, Why string
		Probes           uint64
		Labels           map[string]string
	}
	show := func() (list []target) {
		code, out, errs := outcome(t, "show", "target", "-o", "json", "--run-dir", run)
		if err := json.Unmarshal([]byte(out), &list); code != 0 || err != nil {
			t.Fatalf("show target -o json: %v, %s%s", err, out, errs)
		}
		return list
	}
	before := show()
	if len(before) != 1 || before[0].State != "failing" || before[0].Probes == 0 {
		t.Fatalf("the targets are %+v", before)
	}
	for _, step := range []struct{ old, new, said string }{
		{"name: mx1", "nom: mx1", "mail.monitor.targets[0].nom: unknown key"},
		{"nom: mx1", "name: mx1", "msg=reloaded role=monitor"},
		{"198.51.100.1:9110", "198.51.100.1:9111", "mail.monitor.listen is another one; restart the role"},
		{"198.51.100.1:9111", "198.51.100.1:9110", "msg=reloaded role=monitor"},
		{"kind: real", "kind: vip", "msg=reloaded role=monitor"},
	} {
		text, err := os.ReadFile(h.file)
		h.do(err)
		changed := strings.Replace(string(text), step.old, step.new, 1)
		if changed == string(text) {
			t.Fatalf("%q is not in the file", step.old)
		}
		h.do(os.WriteFile(h.file, []byte(changed), 0o600))
		h.do(p.Process.Signal(syscall.SIGHUP))
		p.said(t, step.said)
	}
	proctest.Eventually(t, "the last reload is in force", func() bool { return show()[0].Labels["kind"] == "vip" })
	if after := show(); after[0].Probes < before[0].Probes || after[0].State != "failing" {
		t.Errorf("after reloads %+v, before %+v", after, before)
	}
	h.do(p.Process.Signal(syscall.SIGTERM))
	if err := <-p.ended; err != nil {
		t.Errorf("it ended with %v: %s", err, &p.stderr)
	}
}
