package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"anycastle/lab/topology"
)

// DefaultRoot is the folder that holds a state folder for each lab.
const DefaultRoot = "/var/tmp/anycastle-lab"

var (
	// ErrNoLab means that no lab of that name has been built, or that Down has removed it.
	ErrNoLab = errors.New("no such lab")
	// ErrUp means that a lab of that name is up already.
	ErrUp = errors.New("the lab is up already")
	// ErrBusy means that another up or down of the same lab is at work.
	ErrBusy = errors.New("another up or down of this lab is at work")
	// ErrNodeGone means that the node's init has ended: the node cannot be used until the lab is built anew.
	ErrNodeGone = errors.New("the node is gone")

	errHeld = errors.New("it is killed, but the kernel keeps it for a command that was started in it and whose parent " +
		"does not collect it, such as a stopped `lab exec`; end that parent and try again")
)

// Lab is a lab that has been built. Its methods may be called from several goroutines at once.
type Lab struct {
	Name     string
	StateDir string // absolute
	Topology *topology.Topology

	source  string
	inits   map[string]initState // by node; not changed after Up or Open
	leashes []net.Conn           // held with DieWithParent
}

// Open finds a lab that Up has built, in this or another process. Its nodes may have died since: see Status. An empty
// root means DefaultRoot. The error is ErrNoLab when there is none.
func Open(name, root string) (*Lab, error) {
	dir, err := stateDir(root, name)
	if err != nil {
		return nil, err
	}
	s, err := readState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open lab %s: %w", name, ErrNoLab)
	} else if err != nil {
		return nil, err
	}
	l := &Lab{Name: name, StateDir: dir, Topology: &s.Topology, source: s.Source}
	l.inits = map[string]initState{}
	for _, i := range s.Inits {
		l.inits[i.Node] = i
	}
	return l, nil
}

// List names the labs under root (DefaultRoot when empty) that Open would find, sorted.
func List(root string) ([]string, error) {
	root = rootOr(root)
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(root, e.Name(), stateFile)); err == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Down ends every process of the lab, waits until they are gone and removes the state folder, except its logs when
// keepLogs is set. It may be called again, and on a lab whose nodes have died.
func (l *Lab) Down(ctx context.Context, keepLogs bool) error {
	unlock, err := lock(l.StateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("take lab %s down: %w", l.Name, err)
	}
	defer unlock()
	return l.tearDown(ctx, keepLogs)
}

// Sweep removes the state folder of a lab whose builder was killed before it wrote down any state; no node had started then.
// With any other lab, and with none, it does nothing.
func Sweep(name, root string) error {
	dir, err := stateDir(root, name)
	if err != nil {
		return err
	}
	unlock, err := lock(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("sweep lab %s: %w", name, err)
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(dir, stateFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// tearDown is Down for who holds the lock already.
func (l *Lab) tearDown(ctx context.Context, keepLogs bool) error {
	closeAll(l.leashes)
	var g errgroup.Group
	for _, i := range l.inits {
		g.Go(func() error { return i.kill(ctx) })
	}
	if err := g.Wait(); err != nil {
		return err // the state stays, so that another Down finds what is left
	}
	return clear(l.StateDir, keepLogs)
}

// clear removes what a dead lab has left on disk; state.json goes last, so that a lab half removed is found again.
func clear(dir string, keepLogs bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clear state folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() == stateFile || keepLogs && e.Name() == logDir {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("clear state folder: %w", err)
		}
	}
	if err := os.Remove(filepath.Join(dir, stateFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear state folder: %w", err)
	}
	if keepLogs {
		return nil
	}
	return os.Remove(dir)
}

// endTimeout bounds the wait for a killed node.
const endTimeout = 10 * time.Second

// kill ends a node. The kernel kills whatever runs in a PID namespace with its init and lets init go only when all of
// it has gone, so waiting for the one process is enough.
func (i initState) kill(ctx context.Context) error {
	fd, err := i.open()
	if errors.Is(err, errGone) {
		return nil
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill %s: %w", i.Node, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, endTimeout, errHeld)
	defer cancel()
	for {
		// a pidfd becomes readable when its process ends; the short timeout is there for ctx
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for %s to end: %w", i.Node, err)
		}
		if n > 0 {
			i.reap()
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for %s to end: %w", i.Node, context.Cause(ctx))
		}
	}
}

// reap collects an init that this process has started. Another process's init is not ours to wait for: ECHILD.
func (i initState) reap() {
	unix.Wait4(i.Pid, nil, unix.WNOHANG, nil)
}

// init finds the process of a node that exists in the topology.
func (l *Lab) init(node string) (initState, error) {
	if _, ok := l.Topology.Node(node); !ok {
		return initState{}, fmt.Errorf("lab %s has no node %q", l.Name, node)
	}
	i, ok := l.inits[node]
	if !ok || !i.alive() {
		return initState{}, fmt.Errorf("node %s: %w", node, ErrNodeGone)
	}
	return i, nil
}

func rootOr(root string) string {
	if root == "" {
		return DefaultRoot
	}
	return root
}

// stateDir gives the folder of a lab, which need not exist.
func stateDir(root, name string) (string, error) {
	if err := topology.CheckName(name); err != nil {
		return "", err
	}
	root = rootOr(root)
	if os.Geteuid() != 0 {
		return "", errors.New("a lab needs root, to make namespaces and to mount; run this as root")
	}
	info, err := os.Stat(root)
	if err == nil && (info.Sys().(*syscall.Stat_t).Uid != 0 || info.Mode()&0o002 != 0) {
		// what is written there says which processes to kill
		return "", fmt.Errorf("the state root %s is not root's own: others can write there; choose another", root)
	}
	return filepath.Abs(filepath.Join(root, name))
}

// lock keeps other ups and downs of the same lab away. The lock is on the folder itself: it leaves no file behind and
// ends with the process.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	// the folder may have been removed between opening and locking it
	held, err := f.Stat()
	if err == nil {
		var now fs.FileInfo
		if now, err = os.Stat(dir); err == nil && !os.SameFile(held, now) {
			err = ErrBusy
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// nodeNames lists the nodes in the topology's order.
func (l *Lab) nodeNames() []string {
	var names []string
	for _, n := range l.Topology.Nodes {
		names = append(names, n.Name)
	}
	return names
}
