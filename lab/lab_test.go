package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/netnstest"
)

// binary is the product, built once: the lab drives it from outside, as a user does.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "anycastle-lab-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "anycastle")
	build := exec.Command("go", "build", "-o", binary, "../cmd/anycastle")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// ours runs the binary with the lab's state in root.
func ours(ctx context.Context, root string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, append(args, "--state", root)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// leftovers is all that a lab with its state in root could leave on the machine, outside of root. Other tests run
// meanwhile, so what is theirs is left out.
func leftovers(t *testing.T, root string) map[string]string {
	t.Helper()
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Name())
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, root) || strings.Contains(line, filepath.Dir(binary)) {
			ours = append(ours, line)
		}
	}
	_, err = os.Stat("/sys/fs/bpf/anycastle")
	return map[string]string{
		"links":     strings.Join(names, " "),
		"mounts":    strings.Join(ours, ""),
		"pins":      fmt.Sprint(err),
		"processes": strings.Join(processes(t), "\n"),
	}
}

// processes lists the command lines of everything that runs the binary under test, under whatever path it sees it.
func processes(t *testing.T) []string {
	t.Helper()
	own, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, exe := range exes {
		info, err := os.Stat(exe)
		if err != nil || !os.SameFile(own, info) {
			continue // gone meanwhile, or another program
		}
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(exe), "cmdline"))
		list = append(list, exe+" "+string(bytes.ReplaceAll(cmdline, []byte{0}, []byte(" "))))
	}
	return list
}

// leavesNothing checks that the machine is as it was, and that the root of the labs' state is empty.
func leavesNothing(t *testing.T, before map[string]string, root string) {
	t.Helper()
	after := leftovers(t, root)
	for what, was := range before {
		if after[what] != was {
			t.Errorf("%s before:\n%s\nafter:\n%s", what, was, after[what])
		}
	}
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if len(entries) > 0 {
		t.Errorf("left in the state folder: %v", entries)
	}
}

type row struct {
	Fault             string `json:"fault"`
	OutageVIPMS       int64  `json:"outage_vip_ms"`
	OutageNameMS      int64  `json:"outage_name_ms"`
	ConnectionsBroken int    `json:"connections_broken"`
	TookOver          string `json:"took_over"`
}

// The whole demo, with real processes and real packets. Its figures are printed by the demo; here they have wide bounds
// that only something broken exceeds: hold time, probe counts and some slack for a busy machine.
func TestDemo(t *testing.T) {
	netnstest.Root(t)
	root, report := t.TempDir(), t.TempDir()
	before := leftovers(t, root)
	cmd := ours(t.Context(), root, "lab", "demo", "--report", report, "--logs", t.TempDir())
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	leavesNothing(t, before, root)
	text, err := os.ReadFile(filepath.Join(report, "demo.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rows); err != nil {
		t.Fatal(err)
	}
	want := []struct {
		fault, tookOver string
		most            int64 // ms
	}{
		{"real killed", `^mx2\.east\.example\.org$`, 3000},
		{"LB killed", `^east-lb2$`, 3000},
		{"all reals of a VIP killed at a site", `^mx1\.west\.example\.org, mx2\.west\.example\.org$`, 5000},
		{"site east cut off silently", `^mx1\.west\.example\.org, mx2\.west\.example\.org$`, 10000},
		{"site east returns", `^mx1\.east\.example\.org, mx2\.east\.example\.org$`, 5000},
	}
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(rows), len(want))
	}
	for i, w := range want {
		r := rows[i]
		if !strings.HasPrefix(r.Fault, w.fault) || !regexp.MustCompile(w.tookOver).MatchString(r.TookOver) {
			t.Errorf("row %d: %q taken over by %q, want %s by %s", i, r.Fault, r.TookOver, w.fault, w.tookOver)
		}
		if r.OutageVIPMS > w.most || r.OutageNameMS > w.most {
			t.Errorf("%s: outage %d ms at the VIP, %d ms by name; at most %d", r.Fault, r.OutageVIPMS, r.OutageNameMS, w.most)
		}
	}
	if rows[0].ConnectionsBroken == 0 || rows[1].ConnectionsBroken != 0 {
		t.Errorf("connections broken: %d by the real's death, want some; %d by the balancer's, want none",
			rows[0].ConnectionsBroken, rows[1].ConnectionsBroken)
	}
	if !bytes.Contains(out, []byte("lost: 0, doubled: 0")) {
		t.Error("acknowledged mails are lost or doubled")
	}
}

// Ctrl-C at any moment takes the lab away: while it is built, while it settles, and under load.
func TestInterruptedDemoLeavesNothing(t *testing.T) {
	netnstest.Root(t)
	for _, at := range []string{"starting 21 nodes", "starting their commands", "fault: real killed"} {
		t.Run(at, func(t *testing.T) {
			root := t.TempDir()
			before := leftovers(t, root)
			ctx, interrupt := context.WithCancel(t.Context())
			cmd := ours(ctx, root, "lab", "demo", "--logs", t.TempDir())
			seen := &trigger{text: at, fire: interrupt}
			cmd.Stdout, cmd.Stderr = seen, seen
			if err := cmd.Run(); err == nil || !strings.HasSuffix(seen.all.String(), "\ninterrupted; the lab is gone\n") {
				t.Errorf("an interrupted demo ends with %v and says:\n%s", err, seen.all.String())
			}
			if !seen.fired {
				t.Fatalf("the demo never said %q:\n%s", at, seen.all.String())
			}
			leavesNothing(t, before, root)
		})
	}
}

// trigger fires once its text has been written.
type trigger struct {
	text  string
	fire  func()
	fired bool
	all   bytes.Buffer
}

func (w *trigger) Write(p []byte) (int, error) {
	w.all.Write(p)
	if !w.fired && strings.Contains(w.all.String(), w.text) {
		w.fired = true
		w.fire()
	}
	return len(p), nil
}

// Two labs of one topology stand beside each other with the same addresses; each has its own mail.
func TestTwoLabsAtOnce(t *testing.T) {
	netnstest.Root(t)
	root := t.TempDir()
	before := leftovers(t, root)
	run := func(args ...string) string {
		t.Helper()
		out, err := ours(t.Context(), root, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("anycastle %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	inClient := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), binary, append([]string{"lab", "--state", root, "exec", name, "client", "--", "anycastle", "lab", "client"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("client of %s, %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	for _, name := range []string{"one", "two"} {
		run("lab", "up", "two-site", "--name", name)
		t.Cleanup(func() {
			if out, err := ours(context.WithoutCancel(t.Context()), root, "lab", "down", name).CombinedOutput(); err != nil {
				t.Errorf("down %s: %v\n%s", name, err, out)
			}
		})
	}
	if n := len(processes(t)); n < 2*21 {
		t.Errorf("%d processes run in two labs of 21 nodes; the search for leftovers misses some", n)
	}
	for _, name := range []string{"one", "two"} {
		inClient(name, "ready")
		if out := inClient(name, "round-trip"); strings.Count(out, "byte for byte") != 4 {
			t.Errorf("round trip in %s: %s", name, out)
		}
	}
	// what happens in one is not seen in the other
	run("lab", "cut", "one", "east")
	if out := inClient("two", "round-trip"); strings.Count(out, "byte for byte") != 4 {
		t.Errorf("lab two while lab one is cut: %s", out)
	}
	if out, err := exec.Command(binary, "lab", "--state", root, "up", "two-site", "--name", "two").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("up already")) {
		t.Errorf("a second lab of the same name: %v %s", err, out)
	}
	run("lab", "down", "one")
	if out := inClient("two", "round-trip"); strings.Count(out, "byte for byte") != 4 {
		t.Errorf("lab two after lab one is gone: %s", out)
	}
	run("lab", "down", "two")
	leavesNothing(t, before, root)
}

// The commands that lab/README.md and README.md show by hand, in their order, run for real.
func TestCommandsOfTheReadmes(t *testing.T) {
	netnstest.Root(t)
	root := t.TempDir()
	before := leftovers(t, root)
	t.Cleanup(func() {
		if out, err := ours(context.WithoutCancel(t.Context()), root, "lab", "down", "two-site").CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	for _, file := range []string{"../README.md", "README.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?m)^sudo \./anycastle lab (.*)$`).FindAllStringSubmatch(string(text), -1)
		if len(found) < 5 {
			t.Fatalf("%s shows %d lab commands; there are more", file, len(found))
		}
		for _, m := range found {
			args := append([]string{"lab", "--state", root}, strings.Fields(m[1])...)
			out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %s: %v\n%s", file, m[0], err, out)
			}
			if strings.HasPrefix(m[1], "up ") {
				ready := exec.CommandContext(t.Context(), binary, "lab", "--state", root, "exec", "two-site", "client", "--", "anycastle", "lab", "client", "ready")
				if out, err := ready.CombinedOutput(); err != nil {
					t.Fatalf("not ready: %v\n%s", err, out)
				}
			}
		}
		leavesNothing(t, before, root)
	}
}
