package main

import (
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"anycastle/internal/daemon"
	"anycastle/mailroles/queue"
)

func TestShowQueue(t *testing.T) {
	next := time.Now().Add(5*time.Minute + 300*time.Millisecond)
	list := []queue.Status{
		{ID: "1", Arrived: time.Now().Add(-time.Hour), Size: 1234, From: "alice@example.org", Recipients: []queue.RecipientStatus{
			{Address: "x@a.example", State: queue.Waiting, Attempts: 3, Next: &next, Host: "mx.a.example", Last: "450 4.2.1 Later"},
			{Address: "y@b.example", State: queue.Waiting, Attempts: 1, Running: true},
			{Address: "z@c.example", State: queue.Failed, Attempts: 1, Last: "550 5.1.2 There is no domain c.example"},
		}},
		{ID: "2", Arrived: time.Now(), Size: 5, Held: "GTUBE", Recipients: []queue.RecipientStatus{{Address: "x@a.example", State: queue.Waiting}}},
		{ID: "3", Arrived: time.Now(), Size: 5, Deleted: true, Recipients: []queue.RecipientStatus{
			{Address: "x@a.example", State: queue.Waiting, Running: true, Host: "mx.a.example", Last: "450 4.2.1 Later"},
		}},
	}
	dir := t.TempDir()
	runFake(t, daemon.Process{Role: "store", RunDir: dir, Log: slog.New(slog.DiscardHandler), Status: map[string]func() any{
		"/v1/queue": func() any { return list },
	}})
	show := func(args ...string) string {
		t.Helper()
		code, out, errs := outcome(t, append(append([]string{"show", "queue"}, args...), "--run-dir", dir)...)
		if code != 0 {
			t.Fatalf("show queue %q: %s", args, errs)
		}
		return out
	}
	rows := regexp.MustCompile(" {2,}").ReplaceAllString(show(), "|")
	for _, want := range []string{
		"\n1|1h0m0s|1234|alice@example.org|x@a.example|waiting|3|5m0s|mx.a.example: 450 4.2.1 Later\n",
		"|y@b.example|waiting|1|now|-\n",
		"|z@c.example|failed|1|-|550 5.1.2 There is no domain c.example\n",
		"\n2|0s|5|<>|x@a.example|held|0|-|GTUBE\n",
		"\n3|0s|5|<>|x@a.example|deleted|0|now|goes when its attempt has ended\n",
	} {
		if !strings.Contains(rows, want) {
			t.Errorf("no row %q in\n%s", want, rows)
		}
	}
	if out := show("2"); strings.Contains(out, "alice") || !strings.Contains(out, "GTUBE") {
		t.Errorf("one entry:\n%s", out)
	}
	if out := show("-o", "json"); !strings.Contains(out, `"last": "450 4.2.1 Later"`) || !strings.Contains(out, `"recipients": [`) {
		t.Errorf("as JSON:\n%s", out)
	}
}

func TestQueueOrders(t *testing.T) {
	dir := t.TempDir()
	var got []queue.Order
	runFake(t, daemon.Process{Role: "store", RunDir: dir, Log: slog.New(slog.DiscardHandler), Handlers: map[string]http.HandlerFunc{
		"POST /v1/queue-order": daemon.Answer(slog.New(slog.DiscardHandler), func(o queue.Order) (queue.Ordered, error) {
			if o.ID == "none" {
				return queue.Ordered{}, errors.New(`the queue has no entry "none"`)
			}
			got = append(got, o)
			return queue.Ordered{Entries: 2, Left: len(got) % 2}, nil // each in two parts
		}),
	}})
	for _, order := range []string{"flush", "hold", "release", "delete"} {
		code, out, errs := outcome(t, "mail", "queue", order, "all", "--run-dir", dir)
		if code != 0 || out != "all: "+order+", 4 changed\n" {
			t.Errorf("%s: exit %d, %q, %s", order, code, out, errs)
		}
		if last := got[len(got)-1]; last.Order != order || last.ID != "all" || last.By != orderedBy() {
			t.Errorf("%s: the store was told %+v", order, last)
		}
	}
	if code, _, errs := outcome(t, "mail", "queue", "hold", "none", "--run-dir", dir); code == 0 || !strings.Contains(errs, `no entry "none"`) {
		t.Errorf("an unknown entry: exit %d, %s", code, errs)
	}
	for _, args := range [][]string{{"mail", "queue", "burn", "all"}, {"mail", "queue", "flush"}} {
		if code, _, errs := outcome(t, args...); code != exitUsage || errs == "" {
			t.Errorf("%q: exit %d, %s", args, code, errs)
		}
	}
}
