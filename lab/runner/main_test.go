package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// TestMain lets the test binary stand for the anycastle binary: it plays init, and the small programs that the nodes
// of the test topologies run.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		os.Exit(m.Run())
	}
	if err := play(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func play(name string, args []string) error {
	switch name {
	case "lab":
		return InitMain()
	case "address":
		return setAddress(args[0], args[1])
	case "echo":
		return echo(args[0])
	case "talk":
		return talk(args[0])
	case "knock":
		return knock(args[0])
	case "die":
		return dieInUp(args[0], args[1])
	case "up":
		return upAndWait(args[0], args[1])
	}
	return fmt.Errorf("the test binary does not play %q", name)
}

func setAddress(iface, prefix string) error {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(link, addr)
}

func echo(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go io.Copy(c, c)
	}
}

// patience is for what takes milliseconds, on a machine that has other tests to run.
const patience = 10 * time.Second

// talk sends each line of its input and prints what comes back. The far end may have started, and not listen yet.
func talk(addr string) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	for end := time.Now().Add(patience); errors.Is(err, unix.ECONNREFUSED) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		c, err = net.DialTimeout("tcp", addr, patience)
	}
	if err != nil {
		return err
	}
	go io.Copy(c, os.Stdin)
	_, err = io.Copy(os.Stdout, c)
	if err == nil {
		err = errors.New("closed by the far end")
	}
	return err
}

// knock succeeds when the far end sends back what it gets.
func knock(addr string) error {
	c, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(c, "x"); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// upAndWait holds a lab that dies with this process.
func upAndWait(topo, root string) error {
	if _, err := Up(context.Background(), Options{Topology: topo, Root: root, DieWithParent: true}); err != nil {
		return err
	}
	fmt.Println("up")
	select {}
}

// dieInUp is a runner that is killed before any node has started.
func dieInUp(topo, root string) error {
	_, err := Up(context.Background(), Options{Topology: topo, Root: root, Prepare: func(string) error {
		return unix.Kill(os.Getpid(), unix.SIGKILL)
	}})
	return err
}

const three = "testdata/three/three.clab.yml"

// up brings a lab up for the length of the test.
func up(t *testing.T, o Options) *Lab {
	t.Helper()
	netnstest.Root(t)
	if o.Root == "" {
		o.Root = t.TempDir()
	}
	l, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range l.nodeNames() {
				t.Log(n, l.logTail(n))
			}
		}
		if err := l.Down(context.WithoutCancel(t.Context()), false); err != nil {
			t.Errorf("down: %v", err)
		}
	})
	return l
}

// run runs a command in a node and gives its output; the test fails when the command does.
func run(t *testing.T, l *Lab, node string, argv ...string) string {
	t.Helper()
	out, err := tryRun(t, l, node, argv...)
	if err != nil {
		t.Fatalf("%s in %s: %v: %s", argv, node, err, out)
	}
	return out
}

func tryRun(t *testing.T, l *Lab, node string, argv ...string) (string, error) {
	t.Helper()
	c := l.Command(t.Context(), node, argv...)
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return strings.TrimSpace(out.String()), err
}

// eventually waits for a condition that something outside this process brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(3 * patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("still not: %s", what)
		case <-tick.C:
		}
	}
}

// conversation is a `talk` that runs in a node.
type conversation struct {
	t     *testing.T
	say   io.WriteCloser
	heard chan string // closed when the connection ends
}

func dial(t *testing.T, l *Lab, node, addr string) *conversation {
	t.Helper()
	in, say := pipe(t)
	out, hear := pipe(t)
	cmd := l.Command(t.Context(), node, "anycastle", "talk", addr)
	cmd.Stdin, cmd.Stdout = in, hear
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	hear.Close()
	c := &conversation{t: t, say: say, heard: make(chan string, 16)}
	var g sync.WaitGroup
	g.Go(func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			c.heard <- s.Text()
		}
		close(c.heard)
	})
	g.Go(func() { cmd.Wait() })
	t.Cleanup(func() {
		cmd.Signal(unix.SIGKILL) // in vain when it has ended
		g.Wait()
	})
	return c
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

func (c *conversation) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.say, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conversation) expect(line string) {
	c.t.Helper()
	select {
	case got := <-c.heard:
		if got != line {
			c.t.Fatalf("heard %q, want %q", got, line)
		}
	case <-time.After(10 * time.Second):
		c.t.Fatalf("heard nothing, want %q", line)
	}
}

// namespaces gives the identities of all namespaces of the lab's inits, by kind and number.
func namespaces(t *testing.T, l *Lab) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, i := range l.inits {
		for _, kind := range []string{"net", "mnt", "pid", "uts", "ipc"} {
			id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", i.Pid, kind))
			if err != nil {
				t.Fatal(err)
			}
			found[id] = true
		}
	}
	return found
}

// users lists the threads that are in one of the namespaces. One that has ended does not count: a zombie is shown in
// its PID namespace until its parent collects it, which the first process of a container may never do.
func users(t *testing.T, namespaces map[string]bool) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/task/*/ns/*")
	if err != nil || len(links) == 0 {
		t.Fatalf("list namespaces: %v, %d found", err, len(links))
	}
	var found []string
	for _, link := range links {
		if id, err := os.Readlink(link); err != nil || !namespaces[id] {
			continue
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(link)), "stat"))
		if err != nil {
			continue
		}
		if _, ended, err := parseStat(string(text)); err != nil || !ended {
			found = append(found, link)
		}
	}
	return found
}

// ignored gives the set of signals that a process ignores, a bit each.
func ignored(t *testing.T, pid string) uint64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nSigIgn:\t")
	hex, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return set
}
