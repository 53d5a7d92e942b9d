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
	"anycastle/lab/score"
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
	if built := os.Getenv("ANYCASTLE_BINARY"); built != "" {
		build = exec.Command("cp", built, binary) // a file of its own, by which its processes are known
	}
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

// Scenarios of the demo, with real processes and real packets. Whether every promise is kept is for the demo to say, on a machine
// that has nothing else to do; here are wide bounds that only something broken exceeds: timers and slack for a busy machine.
func TestScenarios(t *testing.T) {
	netnstest.Root(t)
	root, report := t.TempDir(), t.TempDir()
	before := leftovers(t, root)
	out, err := ours(t.Context(), root, "lab", "run", "real-killed", "store-killed", "site-lost", "--report", report).CombinedOutput()
	t.Logf("%s", out)
	if err != nil && !bytes.HasPrefix(out[bytes.LastIndexByte(bytes.TrimSpace(out), '\n')+1:], []byte("a promise was not kept")) {
		t.Fatal(err)
	}
	leavesNothing(t, before, root)
	text, err := os.ReadFile(filepath.Join(report, "lab.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []score.Row
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rows); err != nil {
		t.Fatal(err)
	}
	want := []struct {
		fault, tookOver string
		vip, delivery   int64 // at most, ms
	}{
		{"real killed", `^mx2\.east\.example\.org$`, 3000, 6000},
		{"store killed", `^(east-standby|west-store1|west-standby)$`, 0, 10000},
		{"site lost with its stores", `^west-(store1|standby)$`, 6000, 20000},
	}
	found := 0
	for _, r := range rows {
		if r.MailsLost > 0 || r.MailsDoubled > 0 {
			t.Errorf("%s: %d mails lost, %d doubled", r.Fault, r.MailsLost, r.MailsDoubled)
		}
		for _, w := range want {
			if r.Fault != w.fault {
				continue
			}
			found++
			if !regexp.MustCompile(w.tookOver).MatchString(r.TookOver) {
				t.Errorf("%s is taken over by %q, want %s", r.Fault, r.TookOver, w.tookOver)
			}
			if r.OutageVIPMS > w.vip || r.OutageDeliveryMS > w.delivery || r.OutageNameMS > 20000 {
				t.Errorf("%s: outage %d ms at the VIP, %d ms by name, %d ms of delivery; at most %+v", r.Fault, r.OutageVIPMS, r.OutageNameMS, r.OutageDeliveryMS, w)
			}
			if r.Fault == "real killed" && r.ConnectionsBroken == 0 {
				t.Error("a dead front end has broken no connection: the client does not look")
			}
		}
	}
	if found != len(want) {
		t.Errorf("%d of the faults are in the table, want all %d", found, len(want))
	}
	for _, file := range []string{"report.html", "report.md"} {
		if text, err := os.ReadFile(filepath.Join(report, file)); err != nil || !bytes.Contains(text, []byte("site lost with its stores")) {
			t.Errorf("%s: %v, %d bytes", file, err, len(text))
		}
	}
}

// Ctrl-C at any moment takes the lab away: while it is built, while it settles, and under load.
func TestInterruptedDemoLeavesNothing(t *testing.T) {
	netnstest.Root(t)
	for _, at := range []string{"starting 35 nodes", "starting their commands", "fault: ISP A cut"} {
		t.Run(at, func(t *testing.T) {
			root := t.TempDir()
			before := leftovers(t, root)
			ctx, interrupt := context.WithCancel(t.Context())
			cmd := ours(ctx, root, "lab", "demo", "--report", t.TempDir())
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
		run("lab", "up", "two-site-light", "--name", name)
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
	if out, err := exec.Command(binary, "lab", "--state", root, "up", "two-site-light", "--name", "two").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("up already")) {
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
	root, drawn := t.TempDir(), t.TempDir()
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
			cmd := exec.CommandContext(t.Context(), binary, args...)
			cmd.Dir = drawn
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %s: %v\n%s", file, m[0], err, out)
			}
			if strings.HasPrefix(m[1], "up ") {
				ready := exec.CommandContext(t.Context(), binary, "lab", "--state", root, "exec", "two-site", "client", "--", "anycastle", "lab", "client", "ready")
				if out, err := ready.CombinedOutput(); err != nil {
					t.Fatalf("not ready: %v\n%s", err, out)
				}
				(&small{t: t, name: "two-site", root: root}).settled() // what is sent while routes still come may be reset
			}
		}
		leavesNothing(t, before, root)
	}
}
