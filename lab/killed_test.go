package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
)

// drill is a scenario of a small lab: its fault comes when the client is under way.
const drill = `title    drill
topology two-site-light

fault
  promise  lost 0
  kill     east-mx1
  watch    20s

back
  promise  lost 0
  start    east-mx1
  watch    1s
`

// Whoever is killed cannot tidy up. Then `lab down` does, whatever was under way, and leaves nothing.
func TestDownAfterTheRunnerIsKilled(t *testing.T) {
	netnstest.Root(t)
	file := filepath.Join(t.TempDir(), "drill.txt")
	if err := os.WriteFile(file, []byte(drill), 0o644); err != nil {
		t.Fatal(err)
	}
	up := []string{"up", "two-site-light"}
	for _, c := range []struct {
		at   string // what it says when it is killed
		args []string
	}{
		{"preparing keys", up},
		{"starting 21 nodes", up},
		{"joining them by", up},
		{"starting their commands", up},
		{"fault: drill", []string{"run", file, "--report", t.TempDir()}},
	} {
		t.Run(c.at, func(t *testing.T) {
			root, tmp := t.TempDir(), t.TempDir()
			before := leftovers(t, root)
			cmd := ours(t.Context(), root, append([]string{"lab"}, append(c.args, "--name", "killed")...)...)
			cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
			seen := &trigger{text: c.at, fire: func() { cmd.Process.Kill() }}
			cmd.Stdout, cmd.Stderr = seen, seen
			if err := cmd.Run(); !seen.fired || !killed(err) {
				t.Errorf("it was to be killed, but ends with %v and says:\n%s", err, seen.all.String())
			}
			if out, err := ours(context.WithoutCancel(t.Context()), root, "lab", "down", "killed").CombinedOutput(); err != nil {
				t.Errorf("down: %v\n%s", err, out)
			}
			if strings.HasSuffix(c.at, "nodes") { // who had not been written down ends by itself
				proctest.Eventually(t, "nodes that were being started end", func() bool { return len(processes(t)) == 0 })
			}
			leavesNothing(t, before, root)
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("left in the folder for temporary files: %v, %v", left, err)
			}
		})
	}
}

// killed says whether a command ended by SIGKILL.
func killed(err error) bool {
	exit, ok := err.(*exec.ExitError)
	return ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}
