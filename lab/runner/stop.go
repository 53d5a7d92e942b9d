package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// stopTime bounds how long a node's cmd may take to end in order; it is shorter than callTimeout.
const stopTime = 25 * time.Second

// Stop has the node's cmd end in order, by SIGTERM, as before an upgrade, and waits until it has. It is an error when the
// cmd does not run, or does not end.
func (l *Lab) Stop(ctx context.Context, node string) error {
	return l.call(ctx, node, request{Op: opStop})
}

// stop is Stop in the init of the node. Nothing else is done for the node meanwhile.
func (n *nodeInit) stop() error {
	n.reap()
	if n.cmd == 0 {
		return errors.New("the node's cmd does not run")
	}
	if err := unix.Kill(n.cmd, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", n.cmd, err)
	}
	deadline := time.Now().Add(stopTime)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n.reap(); n.cmd != 0; n.reap() {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not end within %v", n.cmd, stopTime)
		}
		<-tick.C
	}
	return nil
}

// Root gives the path of a node's file system as this process can reach it, for as long as the node lives.
func (l *Lab) Root(node string) (string, error) {
	i, err := l.init(node)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/root", i.Pid), nil
}
