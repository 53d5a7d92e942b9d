package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"anycastle/gss"
	"anycastle/internal/daemon"
)

// showGSS gives what show says when a site selector answers so, by path.
func showGSS(t *testing.T, status map[string]func() any, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	runFake(t, daemon.Process{Role: "gss", RunDir: dir, Log: slog.New(slog.DiscardHandler), Status: status})
	return outcome(t, append(append([]string{"show"}, args...), "--run-dir", dir)...)
}

func TestShowServerTellsOfReloads(t *testing.T) {
	for want, reload := range map[string]*daemon.Reload{
		"42          -\n":        nil,
		"42          1m0s ago\n": {At: time.Now().Add(-time.Minute), Cause: "SIGHUP"},
		"42          refused 1m0s ago, the config of before stays: node.yml:3: no farm; node.yml:4: no real\n": {
			At: time.Now().Add(-time.Minute), Cause: "SIGHUP", Error: "node.yml:3: no farm\nnode.yml:4: no real"},
	} {
		status := map[string]func() any{"/v1/server": func() any { return []gss.ServerStatus{{Name: "gss-east", Generation: 42, Reload: reload}} }}
		if code, out, errs := showGSS(t, status, "server"); code != 0 || !strings.HasSuffix(out, want) {
			t.Errorf("exit %d, %q, %s", code, errs, out)
		}
	}
}
