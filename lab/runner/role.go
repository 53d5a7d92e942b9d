package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// KillRole ends the process of one role in a node at once (`anycastle ROLE` or `anycastle mail ROLE`), as its crash
// would. A node that runs roles by `anycastle node` starts it again. It is an error when no such process runs.
func (l *Lab) KillRole(_ context.Context, node, role string) error {
	status, err := l.Status()
	if err != nil {
		return err
	}
	killed := false
	for _, n := range status.Nodes {
		for _, p := range n.Processes {
			if n.Name != node || p.Role() != role {
				continue
			}
			switch err := killProcess(p); {
			case err == nil:
				killed = true
			case !errors.Is(err, errGone):
				return fmt.Errorf("kill %s of %s: %w", role, node, err)
			}
		}
	}
	if !killed {
		return fmt.Errorf("no process of the role %s runs in %s", role, node)
	}
	return nil
}

// killProcess ends a process that was seen before, and no other that has got its pid since: the descriptor holds the
// process, and its command line is looked at again through the pid while it does.
func killProcess(p Process) error {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return errGone
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Pid))
	if err != nil || strings.TrimRight(string(line), "\x00") != strings.Join(p.Argv, "\x00") {
		return errGone
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); errors.Is(err, unix.ESRCH) {
		return errGone
	} else if err != nil {
		return err
	}
	return nil
}
