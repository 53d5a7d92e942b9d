package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/lab/topology"
)

// The descriptors that an init is started with, besides the node's log as standard output and error.
const (
	listenerFd = 3
	leashFd    = 4
)

// timerSlack is how late a timer of a node's processes may be, so that more go off at once.
const timerSlack = time.Millisecond

// nodePath is the PATH of every node: the binary lies in its first folder.
const nodePath = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"

// InitMain is the first process of a node; the hidden command `anycastle lab init` runs it and nothing else. It
// returns only when it has not been started by Up, or when the lab's builder went away; the node ends with it.
func InitMain() error {
	if os.Getpid() != 1 {
		return errors.New("lab init is started by `anycastle lab up`, as the first process of a node")
	}
	n := &nodeInit{asks: make(chan ask)}
	leash, err := n.inherit()
	if err != nil {
		return err
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	// caught and dropped, not ignored: a process inherits what its parent ignores, and the node's are to end on SIGTERM
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	for {
		select {
		case a := <-n.asks:
			a.reply <- n.do(a.request)
		case <-leash:
			if !n.detached {
				return errors.New("the lab's builder has gone away")
			}
			leash = nil
		case <-children:
			n.reap()
		}
	}
}

// nodeInit is owned by the one loop of InitMain; the goroutines that read requests hand them over by asks. None is
// waited for: they live as long as the process, and so do their sockets.
type nodeInit struct {
	spec     spec
	asks     chan ask
	cmd      int // pid of the node's cmd, 0 when it does not run
	detached bool
	off      bool // without power
}

type ask struct {
	request request
	reply   chan error
}

// inherit takes over the descriptors. The channel is closed when the leash is.
func (n *nodeInit) inherit() (leash chan struct{}, err error) {
	for _, fd := range []int{listenerFd, leashFd} {
		unix.CloseOnExec(fd) // the node's processes must not hold the leash
	}
	l := os.NewFile(listenerFd, "listener")
	ln, err := net.FileListener(l)
	if err != nil {
		return nil, fmt.Errorf("take over socket: %w", err)
	}
	l.Close()
	f := os.NewFile(leashFd, "leash")
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over leash: %w", err)
	}
	f.Close()
	leash = make(chan struct{})
	go func() {
		n.serve(c)
		close(leash)
	}()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(callTimeout)) // one caller at a time: none may hold up the others
			n.serve(c)
		}
	}()
	return leash, nil
}

// serve answers requests until the connection ends.
func (n *nodeInit) serve(c net.Conn) {
	defer c.Close()
	dec, enc := json.NewDecoder(c), json.NewEncoder(c)
	for {
		a := ask{reply: make(chan error)}
		if err := dec.Decode(&a.request); err != nil {
			return
		}
		n.asks <- a
		var r reply
		if err := <-a.reply; err != nil {
			r.Err = err.Error()
		}
		if err := enc.Encode(r); err != nil {
			return
		}
	}
}

func (n *nodeInit) do(r request) error {
	switch r.Op {
	case opSetup:
		if r.Spec == nil {
			return errors.New("setup without a spec")
		}
		n.spec = *r.Spec
		return buildRoot(&n.spec)
	case opDetach:
		n.detached = true
		return nil
	case opStart:
		return n.start()
	case opKill:
		return n.killAll()
	case opStop:
		return n.stop()
	case opPowerOff:
		return n.powerOff()
	case opPowerOn:
		return n.powerOn()
	case opPause:
		return n.signalRole(r.Role, unix.SIGSTOP)
	case opResume:
		return n.signalRole(r.Role, unix.SIGCONT)
	case opFill:
		return n.fill()
	case opFree:
		return n.free()
	}
	return fmt.Errorf("no such request: %q", r.Op)
}

// start runs the node's cmd in a session of its own, with its output in the node's log.
func (n *nodeInit) start() error {
	argv := n.spec.Node.Cmd
	if len(argv) == 0 {
		return errors.New("the topology gives this node no cmd")
	}
	if n.off {
		return errors.New("the node has no power; power it on")
	}
	n.reap() // it may have ended without the loop having heard yet
	if n.cmd != 0 {
		return fmt.Errorf("%s runs already", argv[0])
	}
	path, err := lookPath(argv[0])
	if err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	// The cmd and all that it starts inherit it from the thread that forks. While a Go process is busy its monitor wakes up every
	// 20 us, which with the kernel's slack of 50 us is half of all switches of threads on a machine with many nodes.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0); err != nil {
		return fmt.Errorf("let timers be late: %w", err)
	}
	// not os/exec: its Wait and reap would take each other's children away
	n.cmd, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   environ(n.spec.Node),
		Files: []uintptr{null.Fd(), 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		n.cmd = 0
		return fmt.Errorf("start %s: %w", path, err)
	}
	return nil
}

// reap collects every child that has ended, orphans of the node's processes among them.
func (n *nodeInit) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid == 0 {
			return
		}
		if pid == n.cmd {
			n.cmd = 0
			// as the roles log, so that its time stands beside what they say
			slog.New(slog.NewTextHandler(os.Stderr, nil)).Warn("process ended", "role", "lab", "command", n.spec.Node.Cmd[0], "how", describe(status))
		}
	}
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return status.Signal().String()
	}
	return "exit status " + strconv.Itoa(status.ExitStatus())
}

// killAll ends every process of the PID namespace but the caller, which is what kill(-1) means to its init.
func (n *nodeInit) killAll() error {
	deadline := time.Now().Add(5 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill all: %w", err)
		}
		n.reap()
		left, err := others()
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not die", left)
		}
		<-tick.C
	}
}

// others lists the living processes of this PID namespace but init. One that has ended and waits for a parent outside
// the node to collect it does not count: its sockets are closed.
func others() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 {
			continue
		}
		if _, ended, err := readStat(pid); err == nil && !ended {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// lookPath finds a command as the node's shell would. It must run where the node's root is.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(nodePath) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("no command %s in the node: it is on none of %s", name, nodePath)
}

// environ is what every process of the node starts with. Each name is there once: programs differ in which of two
// they take.
func environ(n topology.Node) []string {
	all := map[string]string{"PATH": nodePath, "HOME": "/root", "HOSTNAME": n.Name}
	maps.Copy(all, n.Env)
	var env []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		env = append(env, name+"="+all[name])
	}
	return env
}
