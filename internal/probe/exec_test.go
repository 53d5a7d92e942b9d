package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestExec(t *testing.T) {
	t.Setenv("SECRET", "x")
	addr := netip.MustParseAddrPort("192.0.2.7:25")
	for name, tc := range map[string]struct {
		command []string
		want    string
	}{
		"passes":        {[]string{"/bin/true"}, ""},
		"status":        {[]string{"/bin/sh", "-c", "exit 3"}, "exit status 3"},
		"reason":        {[]string{"/bin/sh", "-c", "echo no; echo; echo >&2; printf ' queue\\033 is full \\nmore\\n' >&2; exit 1"}, `queue\x1b is full (exit status 1)`},
		"long reason":   {[]string{"/bin/sh", "-c", "yes line of stderr | head -c 100000 >&2; exit 1"}, "line of stderr (exit status 1)"},
		"signal":        {[]string{"/bin/sh", "-c", "kill -9 $$"}, "signal: killed"},
		"no program":    {[]string{"/nonexistent/check"}, "fork/exec /nonexistent/check: no such file or directory"},
		"its arguments": {[]string{"/bin/sh", "-c", `test "$1" = "a b"`, "sh", "a b"}, ""},
		"environment":   {[]string{"/bin/sh", "-c", `test "$ANYCASTLE_PROBE_ADDRESS $ANYCASTLE_PROBE_PORT $ANYCASTLE_PROBE_MARK $SECRET" = "192.0.2.7 25 0 "`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Type: "exec", Command: tc.command, Timeout: long}
			_, err := try(t.Context(), t, cfg, addr)
			wants(t, err, cfg, addr, tc.want)
		})
	}
}

// pids runs a command whose children write their process ids to a file, and gives these.
func pids(t *testing.T, ctx context.Context, timeout time.Duration, script string) ([]int, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pids")
	cfg := Config{Type: "exec", Command: []string{"/bin/sh", "-c", script, "sh", path}, Timeout: timeout}
	_, err := try(ctx, t, cfg, netip.MustParseAddrPort("192.0.2.7:25"))
	text, rerr := os.ReadFile(path)
	if rerr != nil {
		t.Fatal(rerr, err)
	}
	var list []int
	for _, word := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, pid)
	}
	return list, err
}

func TestExecLeavesNoProcess(t *testing.T) {
	for name, tc := range map[string]struct{ script, want string }{
		"at the timeout":    {`sleep 1000 & echo $$ $! >$1; echo stuck >&2; wait`, "exec 192.0.2.7:25: stuck (no exit within 2s)"},
		"signals ignored":   {`trap '' TERM INT HUP; sleep 1000 & echo $$ $! >$1; while :; do wait; done`, "exec 192.0.2.7:25: no exit within 2s"},
		"after its own end": {`sleep 1000 & echo $! >$1`, ""},
		"after its failure": {`sleep 1000 & echo $! >$1; echo bad >&2; exit 2`, "exec 192.0.2.7:25: bad (exit status 2)"},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := long
			if strings.Contains(tc.want, "within") {
				timeout = 2 * time.Second
			}
			list, err := pids(t, t.Context(), timeout, tc.script)
			if got := fmt.Sprint(err); got != tc.want && (err != nil || tc.want != "") {
				t.Errorf("error is %q, want %q", got, tc.want)
			}
			if len(list) == 0 {
				t.Fatal("no process was started")
			}
			for _, pid := range list {
				eventually(t, func() error {
					// a zombie that the machine's first process has yet to reap is dead as well
					stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
					if err == nil && !strings.Contains(string(stat), ") Z ") {
						return fmt.Errorf("process %d still runs: %s", pid, stat)
					}
					return nil
				})
			}
		})
	}
}

// A process that has left the group and holds stderr keeps no probe waiting.
func TestExecDoesNotWaitForADaemon(t *testing.T) {
	list, err := pids(t, t.Context(), long, `setsid sh -c 'echo $$ >"$1"; exec sleep 1000' sh "$1" & while ! test -s "$1"; do :; done`)
	if err != nil {
		t.Error(err)
	}
	for _, pid := range list {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Error(err)
		}
	}
}
