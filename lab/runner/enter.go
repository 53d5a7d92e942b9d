package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Cmd is a command that runs inside a node: in all of its namespaces, with its root, its environment and "/" as
// folder. It is used like exec.Cmd and by one goroutine, except that Signal may be called from any after Start.
type Cmd struct {
	Stdin          io.Reader // nothing when nil; an *os.File is handed over as it is
	Stdout, Stderr io.Writer // thrown away when nil
	Env            []string  // "NAME=value", added to the node's

	ctx  context.Context // of this one run, as in exec.Cmd
	lab  *Lab
	node string
	argv []string
	cmd  *exec.Cmd
}

// Command readies a command, looked for on the node's PATH. It is killed when ctx ends, by Kill and with the node; when
// this process is killed it lives on. Its parent is this process: Wait must be called after Start, and until it is, a
// node that is taken down cannot end.
func (l *Lab) Command(ctx context.Context, node string, argv ...string) *Cmd {
	return &Cmd{ctx: ctx, lab: l, node: node, argv: argv}
}

// Start starts the command. The error is ErrNodeGone when the node has died.
func (c *Cmd) Start() error {
	if len(c.argv) == 0 {
		return errors.New("no command to run")
	}
	if c.cmd != nil {
		return errors.New("the command has been started already")
	}
	i, err := c.lab.init(c.node)
	if err != nil {
		return err
	}
	fd, err := i.open()
	if errors.Is(err, errGone) {
		return fmt.Errorf("node %s: %w", c.node, ErrNodeGone)
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = onThread(func() error {
		if err := enter(fd); err != nil {
			return err
		}
		return c.start()
	})
	if err != nil {
		return fmt.Errorf("run %s in %s: %w", c.argv[0], c.node, err)
	}
	return nil
}

// start runs on a thread that has entered the node: paths mean the node's files, and the child inherits the rest.
func (c *Cmd) start() error {
	path, err := lookPath(c.argv[0])
	if err != nil {
		return err
	}
	node, _ := c.lab.Topology.Node(c.node)
	cmd := exec.CommandContext(c.ctx, path, c.argv[1:]...)
	cmd.Args[0] = c.argv[0]
	cmd.Dir = "/"
	cmd.Env = append(environ(node), c.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.WaitDelay = 2 * time.Second // a grandchild may hold the output open after the kill
	if err := cmd.Start(); err != nil {
		return err
	}
	c.cmd = cmd
	return nil
}

// Wait waits for the command to end and its output to be written. A command that ran and failed gives *exec.ExitError.
func (c *Cmd) Wait() error {
	if c.cmd == nil {
		return errors.New("the command has not been started")
	}
	return c.cmd.Wait()
}

// Run is Start and Wait.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output is Run with the standard output returned.
func (c *Cmd) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}

// Signal sends a signal to the command, not to its children. It is an error before Start and after Wait.
func (c *Cmd) Signal(sig os.Signal) error {
	if c.cmd == nil {
		return errors.New("the command has not been started")
	}
	return c.cmd.Process.Signal(sig)
}

// enter moves the calling thread into a node. A mount namespace can be entered only by a thread that shares its root
// and folder with no other, hence the unshare first. The PID namespace is that of the thread's children, not its own.
func enter(pidfd int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("part from the other threads' folder: %w", err)
	}
	const all = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
	if err := unix.Setns(pidfd, all); err != nil {
		return fmt.Errorf("enter namespaces: %w", err)
	}
	return nil
}

// onThread runs f on a thread that ends with it, so that no other goroutine ever finds itself in a node. Goroutines
// that f starts run elsewhere.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// the main thread never ends; in a node it would keep the node's namespaces alive. While this goroutine
			// waits here, the next one cannot get it.
			done <- onThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f() // never unlocked: the thread dies with the goroutine
	}()
	return <-done
}
