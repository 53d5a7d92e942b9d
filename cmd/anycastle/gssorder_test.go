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
	alone []string          // is said of the order when it is taken
	last  func()            // (optional) is called at each look that finds the last
}

func startFakeGSS(t *testing.T, looks ...gss.OrderStatus) *fakeGSS {
	t.Helper()
	f := &fakeGSS{dir: t.TempDir(), looks: looks}
	p := daemon.Process{Role: "gss", RunDir: f.dir, Log: slog.New(slog.DiscardHandler),
		Handlers: map[string]http.HandlerFunc{
			"POST /v1/answer-order": f.take,
			"POST /v1/forget": daemon.Answer(slog.New(slog.DiscardHandler), func(o gss.Forget) (gss.Forget, error) {
				if o.Vantage != "gss-old" {
					return o, errors.New(o.Vantage + " is heard")
				}
				return o, nil
			}),
		},
		Status: map[string]func() any{"/v1/answer-order": f.orders},
	}
	runFake(t, p)
	return f
}

func (f *fakeGSS) take(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := json.NewDecoder(r.Body).Decode(&f.order)
	f.order.Since = time.Now().UTC()
	if err = errors.Join(err, json.NewEncoder(w).Encode(gss.Taken{Order: f.order, Alone: f.alone})); err != nil {
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
	} else if f.last != nil {
		f.last()
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
			"smtp-east: given on, as nothing else works for the rules smtp\n" +
				"this will not end until another answer of these rules works; Ctrl-C leaves the order standing\n" + drained, ""},
		{"through a moment in which no decision has taken an order about its answer", []gss.OrderStatus{drain(decide.Drain{}, false), unheard, done},
			"smtp-east: given no more, held by resolvers for -\n" + drained, ""},
		{"while the replies without it are made", []gss.OrderStatus{drain(decide.Drain{Given: true}, false), done},
			"smtp-east: given still, held by resolvers for -\n" + drained, ""},
		{"not at all where nobody can hold it", []gss.OrderStatus{done}, drained, ""},
		{"not when the config has it no more", []gss.OrderStatus{unheard, {Void: true}}, "",
			"nothing in the config is called site east any more; `anycastle activate site east` removes the order"},
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

// A drain that is over here goes on until it is over at every site selector that counts.
func TestAnswerDrainWaitsForTheOthers(t *testing.T) {
	west := func(d gss.VantageDrain) gss.OrderStatus {
		d.Vantage = "gss-west"
		return gss.OrderStatus{Answers: []gss.AnswerDrain{{Answer: "smtp-east", Done: true}}, Others: []gss.VantageDrain{d}}
	}
	unheard := west(gss.VantageDrain{})
	unheard.Answers = nil
	f := startFakeGSS(t,
		unheard,
		west(gss.VantageDrain{Heard: time.Now().Add(-3 * time.Minute)}),
		west(gss.VantageDrain{Counts: true}),
		west(gss.VantageDrain{Counts: true, Taken: true, Given: true, Clear: time.Now().Add(time.Minute)}),
		west(gss.VantageDrain{Counts: true, Taken: true, Given: true}),
		west(gss.VantageDrain{Counts: true, Taken: true, Clear: time.Now().Add(time.Minute)}),
		west(gss.VantageDrain{Counts: true, Taken: true, Done: true}),
	)
	var out bytes.Buffer
	flags := answerOrderFlags{runDir: f.dir, wait: true, poll: time.Millisecond}
	if err := flags.give(t.Context(), env{stdout: &out}, gss.Order{Kind: decide.KindDrain, Answer: "smtp-east"}); err != nil {
		t.Error(err)
	}
	want := []string{
		"answer smtp-east: drain ordered", "gss-west is not heard: what it gives is not known",
		"smtp-east: drained, no resolver can hold it any more", "gss-west has not taken the order yet",
		"at gss-west given still, held by resolvers for ", "at gss-west given on, as nothing else works there", "at gss-west held by resolvers for ",
		"at gss-west drained, no resolver can hold what it gave any more",
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, line := range lines {
		if i >= len(want) || !strings.HasPrefix(line, want[i]) {
			t.Errorf("line %d is %q", i, line)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("it says\n%s", &out)
	}
}

func TestForgetVantage(t *testing.T) {
	f := startFakeGSS(t)
	code, out, errs := outcome(t, "forget", "vantage", "gss-old", "--run-dir", f.dir)
	if code != 0 || out != "vantage gss-old: forgotten\n" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	code, _, errs = outcome(t, "forget", "vantage", "gss-west", "--run-dir", f.dir)
	if code == 0 || !strings.Contains(errs, "gss-west is heard") {
		t.Errorf("one that is heard: exit %d, %q", code, errs)
	}
}

// A drain that cannot end says so when it is given and while it is waited for, and an interruption says what stands.
func TestDrainWithoutAnEnd(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	on := gss.OrderStatus{Answers: []gss.AnswerDrain{{Answer: "smtp-east", Drain: decide.Drain{Given: true, Only: []string{"smtp", "mx"}}}}}
	f := startFakeGSS(t, on, on, on)
	f.alone, f.last = []string{"smtp", "mx"}, interrupt
	var out, errs bytes.Buffer
	flags := answerOrderFlags{runDir: f.dir, wait: true, poll: time.Millisecond}
	err := flags.give(ctx, env{stdout: &out, stderr: &errs}, gss.Order{Kind: decide.KindDrain, Site: "east"})
	if err == nil || err.Error() != "interrupted; the order stands, `anycastle activate site east` undoes it" {
		t.Errorf("it ends with %v", err)
	}
	if want := "site east: drain ordered\nsmtp-east: given on, as nothing else works for the rules smtp, mx\n"; !strings.HasPrefix(out.String(), want) {
		t.Errorf("it says\n%s", &out)
	}
	if n := strings.Count(out.String(), "this will not end until another answer of these rules works; Ctrl-C leaves the order standing"); n != 1 {
		t.Errorf("it says %d times that there is no end:\n%s", n, &out)
	}
	if !strings.Contains(errs.String(), "nothing else works for the rules smtp, mx") {
		t.Errorf("it warns of %q", &errs)
	}
}
