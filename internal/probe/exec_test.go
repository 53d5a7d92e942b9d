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
		"no mark":       {[]string{"/bin/sh", "-c", `! env | grep -q ^ANYCASTLE_PROBE_VIP`}, ""},
		"environment":   {[]string{"/bin/sh", "-c", `test "$ANYCASTLE_PROBE_ADDRESS $ANYCASTLE_PROBE_PORT $ANYCASTLE_PROBE_MARK $SECRET" = "192.0.2.7 25 0 "`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Type: "exec", Command: tc.command, Timeout: long}
			_, err := try(t.Context(), t, cfg, addr)
			wants(t, err, cfg, addr, tc.want)
		})
	}
}

func TestExecIsToldTheMark(t *testing.T) {
	cfg := Config{Type: "exec", Timeout: long, Command: []string{"/bin/sh", "-c",
		`test "$ANYCASTLE_PROBE_ADDRESS $ANYCASTLE_PROBE_VIP $ANYCASTLE_PROBE_MARK" = "192.0.2.7 2001:db8::25 180355079"`}}
	target := Target{Addr: netip.MustParseAddrPort("192.0.2.7:25"), VIP: netip.MustParseAddr("2001:db8::25"), Mark: 0x0ac00007, Config: &cfg}
	if err := run(t.Context(), target, nil); err != nil {
		t.Error(err)
	}
}

// pids runs a command that writes process ids to a file, and gives these and the probe's error. With cut the probe is
// ended as soon as they are there.
func pids(t *testing.T, script string, cut bool) ([]int, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pids")
	cfg := Config{Type: "exec", Command: []string{"/bin/sh", "-c", script, "sh", path}, Timeout: long}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := try(ctx, t, cfg, netip.MustParseAddrPort("192.0.2.7:25"))
		done <- err
	}()
	var list []int
	eventually(t, func() error {
		text, err := os.ReadFile(path)
		if err == nil && !strings.HasSuffix(string(text), "\n") {
			err = errors.New("the process ids are not there yet")
		}
		for _, word := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				return err
			}
			list = append(list, pid)
		}
		return err
	})
	if cut {
		cancel()
	}
	return list, <-done
}

func TestExecLeavesNoProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		cut    bool
		want   string
	}{
		"when it is cut short": {`sleep 1000 & echo stuck >&2; echo $$ $! >$1; wait`, true, "exec 192.0.2.7:25: stuck (no exit within 30s)"},
		"signals ignored":      {`trap '' TERM INT HUP; sleep 1000 & echo $$ $! >$1; while :; do wait; done`, true, "exec 192.0.2.7:25: no exit within 30s"},
		"after its own end":    {`sleep 1000 & echo $! >$1`, false, ""},
		"after its failure":    {`sleep 1000 & echo $! >$1; echo bad >&2; exit 2`, false, "exec 192.0.2.7:25: bad (exit status 2)"},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := pids(t, tc.script, tc.cut)
			if err == nil && tc.want != "" || err != nil && err.Error() != tc.want {
				t.Errorf("error is %v, want %q", err, tc.want)
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

func TestExecTimeout(t *testing.T) {
	addr := netip.MustParseAddrPort("192.0.2.7:25")
	cfg := Config{Type: "exec", Command: []string{"/bin/sleep", "1000"}, Timeout: 300 * time.Millisecond}
	_, err := try(t.Context(), t, cfg, addr)
	wants(t, err, cfg, addr, "no exit within 300ms")
}

// A process that has left the group and holds stderr keeps no probe waiting.
func TestExecDoesNotWaitForADaemon(t *testing.T) {
	list, err := pids(t, `setsid sh -c 'echo $$ >"$1"; exec sleep 1000' sh "$1" & while ! test -s "$1"; do :; done`, false)
	if err != nil {
		t.Error(err)
	}
	for _, pid := range list {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Error(err)
		}
	}
}
