package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/daemon"
	"anycastle/mailroles/drain"
)

// fakeRole is a mail role that takes orders. Each look at its status finds the next of a list, the last one for ever.
type fakeRole struct {
	mu    sync.Mutex
	order drain.Order
	verb  string
	looks []drain.Status
}

func startFakeRole(t *testing.T, looks ...drain.Status) (f *fakeRole, dir string) {
	t.Helper()
	f, dir = &fakeRole{looks: looks}, t.TempDir()
	log := slog.New(slog.DiscardHandler)
	take := func(verb string) http.HandlerFunc {
		return daemon.Answer(log, func(o drain.Order) (drain.Status, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.verb, f.order = verb, o
			return f.looks[0], nil
		})
	}
	runFake(t, daemon.Process{Role: "imap", RunDir: dir, Log: log,
		Handlers: map[string]http.HandlerFunc{"POST /v1/drain": take("drain"), "POST /v1/activate": take("activate")},
		Status:   map[string]func() any{"/v1/drain": f.look},
	})
	return f, dir
}

func (f *fakeRole) look() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.looks[0]
	if len(f.looks) > 1 {
		f.looks = f.looks[1:]
	}
	return s
}

func TestMailOrders(t *testing.T) {
	f, dir := startFakeRole(t, drain.Status{State: drain.Serving})
	code, out, errs := outcome(t, "drain", "mail", "imap", "--run-dir", dir, "--why", "upgrade")
	want := drain.Order{By: orderedBy(), Why: "upgrade"}
	if code != 0 || out != "mail imap: drain ordered\n" || f.verb != "drain" || f.order != want {
		t.Errorf("exit %d, %q %q, order %s %+v", code, out, errs, f.verb, f.order)
	}
	code, out, errs = outcome(t, "activate", "mail", "imap", "--run-dir", dir)
	if code != 0 || out != "mail imap: activate ordered\n" || f.verb != "activate" {
		t.Errorf("exit %d, %q %q, order %s", code, out, errs, f.verb)
	}
	const roles = `"pop": want one of smtp, submission, imap, store`
	if code, _, errs := outcome(t, "drain", "mail", "pop", "--run-dir", dir); code != exitUsage || !strings.Contains(errs, roles) {
		t.Errorf("no such role: exit %d, %q", code, errs)
	}
	code, _, errs = outcome(t, "drain", "mail", "smtp", "--run-dir", dir)
	if code != exitFailed || !strings.Contains(errs, "smtp is not running here") {
		t.Errorf("a role that does not run: exit %d, %q", code, errs)
	}
}

func TestMailDrainWaits(t *testing.T) {
	state := func(s drain.State, sessions int) drain.Status {
		return drain.Status{State: s, Sessions: sessions, Why: "order by root"}
	}
	draining := []drain.Status{state(drain.Serving, 3), state(drain.Draining, 3), state(drain.Draining, 3), state(drain.Draining, 1)}
	for name, tc := range map[string]struct {
		last     drain.Status
		out, err string
	}{
		"to the end":  {last: state(drain.Stopped, 0), out: "mail imap: stopped: order by root\n"},
		"not to that": {last: state(drain.Serving, 4), err: "mail imap does not drain, it is serving: order by root"},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir := startFakeRole(t, append(draining[:4:4], tc.last)...)
			var out, errs bytes.Buffer
			f := mailOrderFlags{runDir: dir, wait: true, poll: time.Millisecond}
			err := f.give(t.Context(), env{stdout: &out, stderr: &errs}, "drain", "imap")
			want := "mail imap: drain ordered\nmail imap: serving, 3 sessions left\n" +
				"mail imap: draining, 3 sessions left\nmail imap: draining, 1 sessions left\n" + tc.out
			if out.String() != want || (err == nil) != (tc.err == "") || err != nil && err.Error() != tc.err {
				t.Errorf("says %q, %v; want %q, %q", out.String(), err, want, tc.err)
			}
		})
	}
	t.Run("a drain that never begins", func(t *testing.T) {
		_, dir := startFakeRole(t, state(drain.Serving, 3))
		f := mailOrderFlags{runDir: dir, wait: true, poll: time.Millisecond}
		if err := f.give(t.Context(), env{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}, "drain", "imap"); err == nil {
			t.Error("it ends well")
		}
	})
}
