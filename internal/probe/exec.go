package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxStderr is how much of a program's complaint is kept.
	maxStderr = 1024
	// execGrace is how long a program's pipe may be held open after its end by what has left its process group.
	execGrace = 100 * time.Millisecond
)

// run runs the config's program. Its exit status is the result and the first line that it writes to stderr the reason.
// It runs in a process group of its own, of which nothing is left when the probe ends. Its sockets carry no mark unless it
// sets SO_MARK: what else it talks to, such as a resolver, must not be taken for the target.
func run(ctx context.Context, t Target, _ *Advice) error {
	argv := t.Config.Command
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{
		"PATH=" + or(os.Getenv("PATH"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
		"LC_ALL=C",
		"ANYCASTLE_PROBE_ADDRESS=" + t.Addr.Addr().String(),
		fmt.Sprintf("ANYCASTLE_PROBE_PORT=%d", t.Addr.Port()),
		fmt.Sprintf("ANYCASTLE_PROBE_MARK=%d", t.Mark),
	}
	if t.VIP.IsValid() {
		cmd.Env = append(cmd.Env, "ANYCASTLE_PROBE_VIP="+t.VIP.String())
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = execGrace
	var complaint head
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return err
	}
	killed := waitOrKill(ctx, cmd.Process.Pid)
	err := cmd.Wait()
	switch {
	case killed:
		return withComplaint(fmt.Errorf("no exit within %v", t.Config.Timeout), &complaint)
	case errors.Is(err, exec.ErrWaitDelay):
		return nil // it exited with 0, and something that it left elsewhere holds its stderr
	case err != nil:
		return withComplaint(err, &complaint)
	}
	return nil
}

// waitOrKill waits until the process ends, or ends it with ctx, and says which. Then it kills the rest of its group.
// The process is not reaped meanwhile: its group's number cannot become another's.
func waitOrKill(ctx context.Context, pid int) (killed bool) {
	// the only error of kill is that there is none left to kill
	kill := func() { _ = unix.Kill(-pid, unix.SIGKILL) }
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { kill(); close(done) })
	for {
		// its only error is EINTR: the process is our child and has not been waited for
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if !stop() {
		<-done
		return true
	}
	kill()
	return false
}

func withComplaint(err error, complaint *head) error {
	line, _, _ := strings.Cut(strings.TrimSpace(string(complaint.text)), "\n")
	if line == "" {
		return err
	}
	return fmt.Errorf("%s (%w)", strings.TrimSpace(line), err)
}

// head keeps the beginning of what is written to it.
type head struct{ text []byte }

// Write implements io.Writer.
func (h *head) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), maxStderr-len(h.text))]...)
	return len(p), nil
}
