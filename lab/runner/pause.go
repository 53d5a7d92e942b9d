package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Pause stops processes of a node where they stand, as a machine that hangs: links, addresses and connections stay, the
// kernel goes on answering SYN and ping, and nothing else comes. With a role it is the processes of that role alone
// (`anycastle ROLE` or `anycastle mail ROLE`), otherwise every process but init. It is an error when there are none.
func (l *Lab) Pause(ctx context.Context, node, role string) error {
	return l.call(ctx, node, request{Op: opPause, Role: role})
}

// Resume undoes Pause; with the role too, or without for all of the node.
func (l *Lab) Resume(ctx context.Context, node, role string) error {
	return l.call(ctx, node, request{Op: opResume, Role: role})
}

// signalRole sends SIGSTOP or SIGCONT until the state of every process of the role agrees: one that is being started
// while the others are stopped must not slip through.
func (n *nodeInit) signalRole(role string, sig unix.Signal) error {
	deadline := time.Now().Add(5 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		pids, err := others()
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, func(pid int) bool { return role != "" && !playsRole(pid, role) })
		if len(pids) == 0 {
			return noProcess(role)
		}
		wait := 0
		for _, pid := range pids {
			if stopped(pid) == (sig == unix.SIGSTOP) {
				continue
			}
			wait++
			if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("signal process %d: %w", pid, err)
			}
		}
		if wait == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not follow %v", pids, sig)
		}
		<-tick.C
	}
}

func noProcess(role string) error {
	if role == "" {
		return errors.New("no process runs in the node")
	}
	return fmt.Errorf("no process of the role %s runs in the node", role)
}

// playsRole looks at a process's command line.
func playsRole(pid int, role string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && roleOf(strings.Split(string(line), "\x00")) == role
}

// roleOf names the role that a command line of the binary runs: `anycastle lb …` is lb, `anycastle mail store …` is
// store. Another program's is "".
func roleOf(argv []string) string {
	if len(argv) > 0 && path.Base(argv[0]) == "anycastle" {
		argv = argv[1:]
		if len(argv) > 1 && argv[0] == "mail" {
			argv = argv[1:]
		}
		if len(argv) > 0 {
			return argv[0]
		}
	}
	return ""
}

// Role is what the process is in its node: the role that it runs of the binary's, such as lb or store, or the name of
// another program.
func (p Process) Role() string {
	if role := roleOf(p.Argv); role != "" || len(p.Argv) == 0 {
		return role
	}
	return path.Base(p.Argv[0])
}

func stopped(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && stoppedStat(string(text))
}

// stoppedStat takes the state, the first field behind the command's name, from /proc/PID/stat.
func stoppedStat(text string) bool {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	return len(fields) > 0 && (fields[0] == "T" || fields[0] == "t")
}
