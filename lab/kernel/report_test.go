package main

import (
	"errors"
	"strings"
	"testing"
)

// good is what init says of a good run of one package.
func good() []event {
	return []event{
		{Kernel: "6.1.0-56-cloud-amd64"},
		{Begin: "./bpf"},
		{Line: "=== said by a test"},
		{Line: ""},
		{Line: "said by a test"},
		{Line: marker + "--- PASS: TestA (0.10s)"},
		{Line: marker + "    --- PASS: TestA/b (0.05s)"},
		{Line: "PASS"},
		{End: &ended{Package: "./bpf", Seconds: 2}},
		{Done: true},
	}
}

// changed gives the events of a good run with one put in the place of another, or without it.
func changed(at int, by ...event) []event {
	events := good()
	return append(append(append([]event{}, events[:at]...), by...), events[at+1:]...)
}

func TestReport(t *testing.T) {
	const benign = "[    0.000000] Linux version 6.1.0\n[    1.2] Warning: unable to open an initial console.\n[    9.0] reboot: Power down\r\n"
	for _, tc := range []struct {
		name    string
		events  []event
		machine error
		console string
		err     string // empty: a good run
		printed string
	}{
		{name: "good", events: good(), printed: "./bpf: 2 passed, 0 failed, 0 skipped in 2.0 s\nkernel 6.1.0-56-cloud-amd64: 2 tests passed, 0 failed\n"},
		{name: "failure", err: "./bpf: exit status 1", printed: "    said by a test\n    --- FAIL: TestA (0.10s)\n",
			events: append(changed(5, event{Line: marker + "--- FAIL: TestA (0.10s)"})[:8], event{End: &ended{Package: "./bpf", Result: "exit status 1"}}, event{Done: true})},
		{name: "failure that the binary hides", events: changed(5, event{Line: marker + "--- FAIL: TestA (0.10s)"}), err: "a test failed"},
		{name: "skip", events: changed(6, event{Line: marker + "    --- SKIP: TestA/b (0.00s)"}), err: "a test was skipped"},
		{name: "a test prints what looks like a result", events: changed(4, event{Line: "--- SKIP: TestC (0.00s)"}), printed: ": 2 passed, 0 failed, 0 skipped"},
		{name: "no test", events: append(good()[:2], good()[7:]...), err: "no test ran"},
		{name: "package not run", events: append(good()[:1], event{Done: true}), err: "./bpf: not run to its end"},
		{name: "broken off", events: good()[:5], err: "stopped before init was done", printed: "    said by a test\n"},
		{name: "broken off after the tests", events: good()[:9], err: "stopped before init was done"},
		{name: "init fails", events: changed(9, event{Err: "load /modules/veth.ko: exec format error"}), err: "init: load /modules/veth.ko"},
		{name: "machine", events: good(), machine: errors.New("it was not done after 5m"), err: "not done after 5m"},
		{name: "oops", events: good(), console: benign + "[    5.1] BUG: kernel NULL pointer dereference, address: 0\r\n[    5.2] RIP: 0010:x\r\n", err: "BUG: kernel NULL pointer dereference, address: 0\n[    5.2] RIP: 0010:x"},
		{name: "warning", events: good(), console: "[    5.1] WARNING: CPU: 0 PID: 7 at kernel/bpf/verifier.c:1", err: "verifier.c:1"},
		{name: "panic", events: good()[:3], console: "[    5.1] Kernel panic - not syncing: Attempted to kill init!", err: "Attempted to kill init"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out, []testRun{{Package: "./bpf"}})
			for _, e := range tc.events {
				r.take(e)
			}
			if tc.console == "" {
				tc.console = benign
			}
			err := r.close(tc.machine, tc.console)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if !strings.Contains(out.String(), tc.printed) {
				t.Errorf("printed:\n%s\nwithout:\n%s", out.String(), tc.printed)
			}
			if good := strings.Contains(out.String(), "tests passed"); good != (tc.err == "") {
				t.Errorf("error %q, and the last line says: %s", tc.err, out.String())
			}
		})
	}
}

// FuzzEvents feeds a report what a serial line may make of events.
func FuzzEvents(f *testing.F) {
	f.Add(`{"kernel":"6.1.0"}` + "\r\n" + `{"begin":"./bpf"}` + "\n" + `{"line":"\u0016--- PASS: TestA (0.10s)"}` + "\n" + `{"end":{"package":"./bpf","result":"","seconds":1}}` + "\n" + `{"done":true}` + "\n")
	f.Add(`{"end":null}` + "\n{}\n[]\n")
	f.Add("\x00{\n")
	f.Fuzz(func(t *testing.T, text string) {
		var out strings.Builder
		r := newReport(&out, []testRun{{Package: "./bpf"}})
		readErr := readEvents(strings.NewReader(text), r.take)
		err := r.close(readErr, "")
		if err == nil && (!r.done || !r.ended["./bpf"] || r.total == 0 || !strings.Contains(text, "PASS")) {
			t.Errorf("a good run without a test, out of %q", text)
		}
	})
}
