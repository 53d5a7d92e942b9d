package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/daemon"
	"anycastle/internal/mesh"
	"anycastle/lb"
)

// fakeLB answers on a balancer's socket: orders are taken, and each look at the drains finds the next of a list, the last
// one for ever.
type fakeLB struct {
	dir   string
	mu    sync.Mutex
	order lb.Order
	looks [](func(o lb.Order) []lb.DrainStatus)
	peers []mesh.Member
}

func startFakeLB(t *testing.T, looks ...func(o lb.Order) []lb.DrainStatus) *fakeLB {
	t.Helper()
	f := &fakeLB{dir: t.TempDir(), looks: looks, peers: []mesh.Member{}}
	p := daemon.Process{Role: "lb", RunDir: f.dir, Log: slog.New(slog.DiscardHandler),
		Handlers: map[string]http.HandlerFunc{"POST /v1/order": f.take},
		Status:   map[string]func() any{"/v1/drain": f.drains, "/v1/peer-lb": func() any { return f.peers }},
	}
	runFake(t, p)
	return f
}

// runFake runs a process until the test ends, and waits until it answers.
func runFake(t *testing.T, p daemon.Process) {
	t.Helper()
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
		if c, err := net.Dial("unix", daemon.SocketPath(p.RunDir, p.Role)); err == nil {
			c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the fake does not listen")
		}
	}
}

func (f *fakeLB) take(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := json.NewDecoder(r.Body).Decode(&f.order)
	f.order.Since = time.Now().UTC()
	if err = errors.Join(err, json.NewEncoder(w).Encode(f.order)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (f *fakeLB) drains() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.looks[0](f.order)
	if len(f.looks) > 1 {
		f.looks = f.looks[1:]
	}
	return list
}

func nothing(lb.Order) []lb.DrainStatus { return []lb.DrainStatus{} }

// draining is a look that finds so many flows left.
func draining(flows int) func(lb.Order) []lb.DrainStatus {
	return func(o lb.Order) []lb.DrainStatus {
		return []lb.DrainStatus{{Farm: "smtp", Real: "mx1", State: lb.StateDraining, Ordered: o.Since, FlowsLeft: &flows,
			ETA: time.Now().Add(90 * time.Second), WaitsFor: []string{"lb1", "lb2"}}}
	}
}

func safe(o lb.Order) []lb.DrainStatus {
	return []lb.DrainStatus{{Farm: "smtp", Real: "mx1", State: lb.StateSuspended, Ordered: o.Since, Safe: true, Why: "drained: no flow is left"}}
}

// before has the look see the drain of an order that was given earlier.
func before(look func(lb.Order) []lb.DrainStatus) func(lb.Order) []lb.DrainStatus {
	return func(o lb.Order) []lb.DrainStatus {
		o.Since = o.Since.Add(-time.Minute)
		return look(o)
	}
}

func TestDrainWaits(t *testing.T) {
	for _, tc := range []struct {
		name  string
		looks [](func(lb.Order) []lb.DrainStatus)
		want  []string // lines that are said after the first
		err   string
	}{
		{name: "until it is safe", looks: [](func(lb.Order) []lb.DrainStatus){nothing, draining(3), draining(3), draining(1), safe}, want: []string{
			"smtp/mx1: draining, 3 flows left, waits for lb1, lb2, done in about TIME",
			"smtp/mx1: draining, 1 flows left, waits for lb1, lb2, done in about TIME",
			"smtp/mx1: safe to stop: drained: no flow is left"}},
		{name: "not for an order before", looks: [](func(lb.Order) []lb.DrainStatus){before(safe), before(safe), draining(1), safe}, want: []string{
			"smtp/mx1: draining, 1 flows left, waits for lb1, lb2, done in about TIME",
			"smtp/mx1: safe to stop: drained: no flow is left"}},
		{name: "not after another order", looks: [](func(lb.Order) []lb.DrainStatus){draining(1), nothing}, err: "another order has taken the place of the drain", want: []string{
			"smtp/mx1: draining, 1 flows left, waits for lb1, lb2, done in about TIME"}},
		{name: "not for ever", looks: [](func(lb.Order) []lb.DrainStatus){nothing}, err: "the balancer has not begun to drain"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := startFakeLB(t, tc.looks...)
			var out bytes.Buffer
			flags := orderFlags{runDir: f.dir, wait: true, poll: time.Millisecond}
			err := flags.give(t.Context(), env{stdout: &out}, lb.Order{Farm: "smtp", Real: "mx1", Kind: lb.KindDrain})
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			first, rest, _ := strings.Cut(out.String(), "\n")
			got := regexp.MustCompile("about [0-9ms]+").ReplaceAllString(strings.TrimSuffix(rest, "\n"), "about TIME")
			if first != "smtp/mx1: drain ordered" || got != strings.Join(tc.want, "\n") {
				t.Errorf("said %q and\n%s\nwant\n%s", first, got, strings.Join(tc.want, "\n"))
			}
		})
	}
}

// TestDrainTellsOfLostBalancers, which may send the real something without a word.
func TestDrainTellsOfLostBalancers(t *testing.T) {
	f := startFakeLB(t, safe)
	f.peers = []mesh.Member{{Name: "lb1", State: mesh.Alive, Self: true}, {Name: "lb2", State: mesh.Lost}, {Name: "lb3", State: mesh.Left}}
	code, out, errs := outcome(t, "drain", "smtp/mx1", "--wait", "--run-dir", f.dir)
	if code != 0 || !strings.Contains(errs, "lb2 is lost") || strings.Contains(errs, "lb3") || !strings.Contains(out, "safe to stop") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

// Whoever interrupts a wait is told that the order stands.
func TestInterruptedDrain(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	f := startFakeLB(t, draining(3), func(o lb.Order) []lb.DrainStatus { interrupt(); return draining(3)(o) })
	flags := orderFlags{runDir: f.dir, wait: true, poll: time.Millisecond}
	err := flags.give(ctx, env{stdout: &bytes.Buffer{}}, lb.Order{Farm: "smtp", Real: "mx1", Kind: lb.KindDrain})
	if want := "interrupted; the order stands, `anycastle activate smtp/mx1` undoes it"; err == nil || err.Error() != want {
		t.Errorf("it ends with %v, want %s", err, want)
	}
}
