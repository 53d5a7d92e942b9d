package main

import (
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"anycastle/gss"
	"anycastle/gss/decide"
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

// The rows of a rule for clients of several places can be told apart, and programs get lists and seconds.
func TestShowRule(t *testing.T) {
	one := gss.RuleStatus{Name: "smtp", Domains: []string{"smtp.example.org"}, Sources: []string{}, Clause: 1, Balance: decide.Nearest, Count: 1, TTL: 10,
		Answers: []decide.Share{{Answer: "east", Of1000: 1000}}, Basis: decide.ByHealth, Why: "clause 1"}
	two := one
	two.Near = "branch"
	status := map[string]func() any{"/v1/rule": func() any { return []gss.RuleStatus{one, two} }}
	code, out, errs := showGSS(t, status, "rule")
	rows := regexp.MustCompile(" {2,}").ReplaceAllString(out, "|")
	if code != 0 || !strings.Contains(rows, "\nsmtp|smtp.example.org|any|east|10s|") || !strings.Contains(rows, "\nsmtp near branch|smtp.example.org|branch of any|east|10s|") {
		t.Errorf("exit %d, %q,\n%s", code, errs, rows)
	}
	_, out, _ = showGSS(t, status, "rule", "-o", "json")
	if !strings.Contains(out, `"ttl_seconds": 10,`) || !strings.Contains(out, `"sources": [],`) {
		t.Errorf("as JSON it is %s", out)
	}
}

// A noun takes the name of one thing.
func TestShowOne(t *testing.T) {
	answer := func(name string) gss.AnswerStatus { return gss.AnswerStatus{Name: name, Site: "east"} }
	order := func(answer, site string) gss.OrderStatus {
		return gss.OrderStatus{Order: gss.Order{Answer: answer, Site: site, Kind: decide.KindSuspend}}
	}
	status := map[string]func() any{
		"/v1/answer":       func() any { return []gss.AnswerStatus{answer("smtp-east"), answer("imap-east")} },
		"/v1/answer-order": func() any { return []gss.OrderStatus{order("smtp-east", ""), order("", "west")} },
	}
	for _, tc := range []struct {
		args      []string
		code      int
		want, not string
	}{
		{[]string{"answer", "smtp-east"}, 0, "smtp-east", "imap-east"},
		{[]string{"answer", "smtp-east", "-o", "json"}, 0, `"name": "smtp-east"`, "imap-east"},
		{[]string{"answer", "smtp-eats"}, 1, `no answer is called "smtp-eats"; did you mean smtp-east?`, "imap"},
		{[]string{"answer", "pop"}, 1, `no answer is called "pop"; ` + "`anycastle show answer` lists all", "imap"},
		{[]string{"answer-order", "west"}, 0, "site west", "smtp-east"},
	} {
		code, out, errs := showGSS(t, status, tc.args...)
		if said := out + errs; code != tc.code || !strings.Contains(said, tc.want) || strings.Contains(said, tc.not) {
			t.Errorf("show %q: exit %d,\n%s", tc.args, code, said)
		}
	}
}
