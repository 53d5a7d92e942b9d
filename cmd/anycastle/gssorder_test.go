package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/gss"
	"anycastle/gss/decide"
	"anycastle/internal/daemon"
)

// fakeGSS answers on a site selector's socket: it takes an order, and each look at it finds the next of a list, the last one for
// ever.
type fakeGSS struct {
	dir   string
	mu    sync.Mutex
	order gss.Order
	looks []gss.OrderStatus // without the order
}

func startFakeGSS(t *testing.T, looks ...gss.OrderStatus) *fakeGSS {
	t.Helper()
	f := &fakeGSS{dir: t.TempDir(), looks: looks}
	p := daemon.Process{Role: "gss", RunDir: f.dir, Log: slog.New(slog.DiscardHandler),
		Handlers: map[string]http.HandlerFunc{"POST /v1/answer-order": f.take},
		Status:   map[string]func() any{"/v1/answer-order": f.orders, "/v1/server": func() any { return nil }},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- daemon.Run(ctx, p) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); ; {
		if daemon.Get(ctx, f.dir, "gss", "/v1/server", new(any)) == nil {
			return f
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the fake does not listen")
		}
	}
}

func (f *fakeGSS) take(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := json.NewDecoder(r.Body).Decode(&f.order)
	f.order.Since = time.Now().UTC()
	if err = errors.Join(err, json.NewEncoder(w).Encode(f.order)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (f *fakeGSS) orders() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	look := f.looks[0]
	look.Order = f.order
	if len(f.looks) > 1 {
		f.looks = f.looks[1:]
	}
	return []gss.OrderStatus{look}
}

func TestAnswerDrainWaits(t *testing.T) {
	drain := func(d decide.Drain, done bool) gss.OrderStatus {
		return gss.OrderStatus{Answers: []gss.AnswerDrain{{Answer: "smtp-east", Drain: d, Done: done}}}
	}
	unheard, done := gss.OrderStatus{}, drain(decide.Drain{}, true)
	const drained = "smtp-east: drained, no resolver can hold it any more\n"
	for _, tc := range []struct {
		name  string
		looks []gss.OrderStatus
		want  string // that is said after the first line
		err   string
	}{
		{"until it is done", []gss.OrderStatus{unheard, drain(decide.Drain{Given: true, Only: []string{"smtp"}}, false), done},
			"smtp-east: given on, as nothing else works for the rules smtp\n" + drained, ""},
		{"not at all where nobody can hold it", []gss.OrderStatus{done}, drained, ""},
		{"not when the config has it no more", []gss.OrderStatus{unheard, {Void: true}}, "",
			"nothing in the config is called site east any more; `anycastle activate site east` removes the order"},
		{"not after newer orders about its answers", []gss.OrderStatus{drain(decide.Drain{Only: []string{"smtp"}}, false), unheard},
			"smtp-east: given on, as nothing else works for the rules smtp\n", "newer orders about its answers have taken the place"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := startFakeGSS(t, tc.looks...)
			var out bytes.Buffer
			flags := answerOrderFlags{runDir: f.dir, wait: true, poll: time.Millisecond}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err := flags.give(ctx, env{stdout: &out}, gss.Order{Kind: decide.KindDrain, Site: "east"})
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if want := "site east: drain ordered\n" + tc.want; out.String() != want {
				t.Errorf("said\n%swant\n%s", out.String(), want)
			}
		})
	}
}
