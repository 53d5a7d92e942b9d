package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeQEMU gives a machine whose QEMU is a shell script.
func fakeQEMU(t *testing.T, script string) machine {
	t.Helper()
	file := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return machine{qemu: file}
}

func TestMachine(t *testing.T) {
	for _, tc := range []struct{ name, script, err string }{
		{"good", `echo '{"kernel":"6.1.0"}'; echo '{"done":true}'`, ""},
		{"half a line", `printf '{"kernel":"6.1.0"}\r\n{"do'`, ""},
		{"exit code", `echo '{"kernel":"6.1.0"}'; exit 3`, "QEMU: exit status 3"},
		{"no event", `echo '{"kernel":"6.1.0"}'; echo hello; exec sleep 1000`, `line "hello\n" from the machine`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []event
			err := fakeQEMU(t, tc.script).run(t.Context(), func(e event) { got = append(got, e) })
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if len(got) == 0 || got[0].Kernel != "6.1.0" {
				t.Errorf("events %+v, want the kernel first", got)
			}
		})
	}
	if err := (machine{qemu: "/nonexistent"}).run(t.Context(), func(event) {}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without QEMU: error %v", err)
	}
}

// TestMachineThatHangs has a QEMU that says its process id and nothing more.
func TestMachineThatHangs(t *testing.T) {
	late := errors.New("it was not done after a while")
	ctx, cancel := context.WithCancelCause(t.Context())
	pid := 0
	err := fakeQEMU(t, `echo "{\"kernel\":\"$$\"}"; exec sleep 1000`).run(ctx, func(e event) {
		pid, _ = strconv.Atoi(e.Kernel)
		cancel(late)
	})
	if !errors.Is(err, late) {
		t.Errorf("error %v, want the cause", err)
	}
	if pid == 0 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		t.Errorf("process %d is still there", pid)
	}
}

func TestArgsBoundTheMachine(t *testing.T) {
	args := strings.Join(machine{accel: "tcg", memory: 512, cpus: 2}.args(), " ")
	for _, want := range []string{"-no-reboot", "panic=-1", "oops=panic", "-nodefaults"} {
		if !strings.Contains(args, want) {
			t.Errorf("%s is not in %s", want, args)
		}
	}
}

func TestParseOptions(t *testing.T) {
	for _, tc := range []struct {
		args []string
		err  string
	}{
		{[]string{"-image", "x", "./bpf", "./lb=TestA|TestB"}, ""},
		{[]string{"./bpf"}, "usage"},
		{[]string{"-image", "x"}, "usage"},
		{[]string{"-image", "x", "bpf"}, "name a package as ./FOLDER"},
		{[]string{"-image", "x", "./../bpf"}, "name a package as ./FOLDER"},
		{[]string{"-image", "x", "./lb/../bpf"}, "name a package as ./FOLDER"},
		{[]string{"-image", "x", "./bpf=A", "./bpf=B"}, "named twice"},
	} {
		o, err := parseOptions(tc.args)
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%v: error %v, want %q", tc.args, err, tc.err)
		}
		if tc.err != "" || err != nil {
			continue
		}
		if len(o.tests) != 2 || o.tests[1].Run != "TestA|TestB" || o.tests[1].dir() != "/src/lb" || o.limit < time.Minute {
			t.Errorf("options %+v", o)
		}
	}
}

func TestCheckNames(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for run, want := range map[string]string{
		"":                                "",
		"TestCheckNames|TestParseOptions": "",
		"TestCheckNames|TestGone":         "./lab/kernel has no test TestGone",
		"TestCheckNames|":                 "an empty name",
		"FuzzEvents":                      "has no test FuzzEvents",
		"(":                               "list the tests of ./lab/kernel",
	} {
		err := checkNames(t.Context(), testRun{Package: "./lab/kernel", Run: run}, self)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", run, err, want)
		}
	}
}
