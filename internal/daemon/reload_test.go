package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestReload(t *testing.T) {
	dir := t.TempDir()
	var calls atomic.Int32
	var ended atomic.Pointer[Reload]
	stop := start(t, Process{Role: "lb", RunDir: dir, Reloaded: func(r Reload) { ended.Store(&r) }, Reload: func(context.Context) error {
		if calls.Add(1) == 2 {
			return errors.New("node.yml:3: no farm")
		}
		return nil
	}})
	if err := Post(t.Context(), dir, "lb", "/v1/reload", nil, nil); err != nil {
		t.Errorf("first reload: %v", err)
	}
	err := Post(t.Context(), dir, "lb", "/v1/reload", nil, nil)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Text != "node.yml:3: no farm" {
		t.Errorf("second reload: %v, want what the role says", err)
	}
	if r := ended.Load(); r.Error != "node.yml:3: no farm" || r.Cause != "asked on the socket" || r.At.IsZero() {
		t.Errorf("the second reload is told of as %+v", r)
	}
	metric(t, dir, "anycastle_reload_refused 1")
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if n := calls.Load(); n != 3 {
			return fmt.Errorf("%d reloads, want 3 with that on SIGHUP", n)
		}
		if r := ended.Load(); r.Cause != "SIGHUP" || r.Error != "" {
			return fmt.Errorf("the third reload is told of as %+v", r)
		}
		return nil
	})
	metric(t, dir, "anycastle_reload_refused 0")
	if err := stop(); err != nil {
		t.Errorf("clean end: %v", err)
	}
}

// metric wants a line of the metrics.
func metric(t *testing.T, dir, line string) {
	t.Helper()
	body, err := Stream(t.Context(), dir, "lb", http.MethodGet, "/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil || !strings.Contains(string(text), "\n"+line+"\n") {
		t.Errorf("the metrics have no %q: %v", line, err)
	}
}

func TestRoleWithoutReload(t *testing.T) {
	dir := t.TempDir()
	stop := start(t, Process{Role: "real", RunDir: dir})
	err := Post(t.Context(), dir, "real", "/v1/reload", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "restart it") {
		t.Errorf("reload: %v, want the mend", err)
	}
	if err := stop(); err != nil {
		t.Errorf("clean end: %v", err)
	}
}

func TestHandlersAndStreams(t *testing.T) {
	dir := t.TempDir()
	stop := start(t, Process{Role: "lb", RunDir: dir, Handlers: map[string]http.HandlerFunc{
		"POST /v1/order": func(w http.ResponseWriter, r *http.Request) {
			var s status
			if err := json.NewDecoder(r.Body).Decode(&s); err != nil || s.Name == "" {
				http.Error(w, "give a name", http.StatusUnprocessableEntity)
				return
			}
			fmt.Fprintf(w, `{"Name": "%s taken"}`, s.Name)
		},
		"GET /v1/capture": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "first")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	}})
	var got status
	if err := Post(t.Context(), dir, "lb", "/v1/order", status{"mx1"}, &got); err != nil || got.Name != "mx1 taken" {
		t.Errorf("order: %+v, %v", got, err)
	}
	if err := Post(t.Context(), dir, "lb", "/v1/order", status{}, &got); err == nil || err.Error() != "give a name" {
		t.Errorf("refused order: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := Stream(ctx, dir, "lb", http.MethodGet, "/v1/capture", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	buf := make([]byte, 5)
	if _, err := io.ReadFull(stream, buf); err != nil || string(buf) != "first" {
		t.Errorf("stream gives %q, %v", buf, err)
	}
	cancel()
	if _, err := stream.Read(buf); err == nil {
		t.Error("the stream goes on after its context")
	}
	if err := stop(); err != nil {
		t.Errorf("clean end: %v", err)
	}
}

// hangup is a log that sends SIGHUP as soon as the start is told of.
type hangup struct{ slog.Handler }

func (h hangup) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "started" {
		return nil
	}
	return syscall.Kill(syscall.Getpid(), syscall.SIGHUP)
}

func (h hangup) Enabled(context.Context, slog.Level) bool { return true }

func TestSIGHUPRightAfterTheStart(t *testing.T) {
	for range 50 { // the signal's default is to end this process
		ctx, cancel := context.WithCancel(t.Context())
		p := Process{Role: "lb", RunDir: t.TempDir(), Log: slog.New(hangup{slog.DiscardHandler})}
		p.Reload = func(context.Context) error { cancel(); return nil }
		if err := Run(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
}
