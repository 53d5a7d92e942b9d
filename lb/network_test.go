package lb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/daemon"
	"anycastle/internal/netnstest"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The path: client - router - {lb, mx1, mx2}, each on a network of its own behind the router.
const (
	vipTarget = "203.0.113.10:25"
	nodeLB    = `
lb:
  uplinks: [eth1]
  hash_key: "000102030405060708090a0b0c0d0e0f"
  farms:
    - name: smtp
      probes: [{type: tcp, interval: 100ms, timeout: 100ms, fail: 2, pass: 2}]
      reals:
        - {name: mx1, address: 198.51.100.18}
        - {name: mx2, address: 198.51.100.34}
  vips:
    - {name: smtp, address: 203.0.113.10, port: 25, farm: smtp}
`
	nodeReal = `
real:
  uplinks: [eth1]
  vips: [203.0.113.10]
`
	// failTime is when a dead real must be out: the second probe after its death has failed.
	failTime = 2*100*time.Millisecond + 100*time.Millisecond
	// patience bounds every wait; the machine may be busy.
	patience = 60 * time.Second
)

// patient has probes not take a busy machine for a dead real: for tests of other things.
func patient(node string) string {
	return strings.Replace(node, "interval: 100ms, timeout: 100ms, fail: 2, pass: 2", "interval: 500ms, timeout: 500ms, fail: 4, pass: 1", 1)
}

type network struct {
	t                            *testing.T
	client, router, lb, mx1, mx2 *netnstest.NS
	pins, state                  string
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{t: t, client: netnstest.New(t), router: netnstest.New(t), lb: netnstest.New(t),
		mx1: netnstest.New(t), mx2: netnstest.New(t)}
	n.join(n.client, "192.0.2.1/24", "192.0.2.2/24", "to-client", 1500)
	n.join(n.lb, "198.51.100.1/28", "198.51.100.2/28", "to-lb", 1600)
	n.join(n.mx1, "198.51.100.17/28", "198.51.100.18/28", "to-mx1", 1600)
	n.join(n.mx2, "198.51.100.33/28", "198.51.100.34/28", "to-mx2", 1600)
	n.router.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	check(t, n.router.Link.RouteReplace(&netlink.Route{
		Dst: prefix("203.0.113.10/32"), Gw: net.ParseIP("198.51.100.2"),
	}))
	n.pins, n.state = t.TempDir(), t.TempDir()
	check(t, unix.Mount("bpf", n.pins, "bpf", 0, ""))
	t.Cleanup(func() { check(t, unix.Unmount(n.pins, unix.MNT_DETACH)) })
	return n
}

// join makes the node's eth1 and its default route through the router.
func (n *network) join(node *netnstest.NS, routerAddr, nodeAddr, name string, mtu int) {
	n.t.Helper()
	gw := netip.MustParsePrefix(routerAddr)
	netnstest.Veth(n.t, n.router, name, gw, node, "eth1", netip.MustParsePrefix(nodeAddr))
	for ns, dev := range map[*netnstest.NS]string{n.router: name, node: "eth1"} {
		link, err := ns.Link.LinkByName(dev)
		check(n.t, err)
		check(n.t, ns.Link.LinkSetMTU(link, mtu))
	}
	check(n.t, node.Link.RouteReplace(&netlink.Route{Dst: prefix("0.0.0.0/0"), Gw: gw.Addr().AsSlice()}))
}

func prefix(s string) *net.IPNet {
	_, p, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return p
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node is a role's process.
type node struct {
	t    *testing.T
	dir  string
	role string
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// start runs a role in a namespace. dir holds its node file and, while it runs, its socket.
func (n *network) start(ns *netnstest.NS, role, config, name string) *node {
	n.t.Helper()
	p := &node{t: n.t, role: role, dir: n.t.TempDir()}
	config = strings.Replace(config, "lb:\n", fmt.Sprintf("lb:\n  state_dir: %s/%s\n", n.state, name), 1)
	check(n.t, os.WriteFile(p.dir+"/node.yml", []byte(config), 0o600))
	text, err := json.Marshal(child{Dir: p.dir, PinDir: filepath.Join(n.pins, name), Role: role})
	check(n.t, err)
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	p.cmd.Stderr = &p.log
	ns.Do(p.cmd.Start) // a process begins in the namespace of the thread that starts it
	n.t.Cleanup(func() { p.stop(syscall.SIGKILL) })
	return p
}

// stop ends the process and waits for it. A second call does nothing.
func (p *node) stop(sig syscall.Signal) {
	p.t.Helper()
	if p.cmd.ProcessState != nil {
		return
	}
	check(p.t, p.cmd.Process.Signal(sig))
	err := p.cmd.Wait()
	if sig != syscall.SIGKILL && err != nil {
		p.t.Errorf("%s on %v: %v", p.role, sig, err)
	}
	if p.t.Failed() {
		p.t.Logf("%s:\n%s", p.role, p.log.String())
	}
}

// get asks the process's socket; ok is false while it does not answer.
func (p *node) get(path string, v any) bool {
	return daemon.Get(p.t.Context(), p.dir, p.role, path, v) == nil
}

func (p *node) announced() string {
	text, err := os.ReadFile(p.dir + "/announced")
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	check(p.t, err)
	return string(text)
}

// inService says whether a real takes new flows.
func (p *node) inService(name string) bool { return p.realState(name).inService() }

// realState gives the state of a real, "" while the LB does not answer.
func (p *node) realState(name string) State {
	var reals []RealStatus
	p.get("/v1/real", &reals)
	for _, r := range reals {
		if r.Name == name {
			return r.State
		}
	}
	return ""
}

// eventually polls a condition that another process brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

// server answers each connection with its name and a newline, and then echoes.
type server struct {
	ln    net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

func serve(t *testing.T, ns *netnstest.NS, name string) *server {
	t.Helper()
	s := &server{}
	ns.Do(func() error {
		var err error
		s.ln, err = net.Listen("tcp", ":25")
		return err
	})
	s.wg.Go(func() {
		for {
			c, err := s.ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.wg.Go(func() {
				defer c.Close()
				if _, err := fmt.Fprintln(c, name); err == nil {
					io.Copy(c, c) // ends with the connection
				}
			})
		}
	})
	t.Cleanup(func() {
		s.ln.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

// connect opens a connection to the VIP from the client and gives the name of the real that took it.
func (n *network) connect() (conn net.Conn, name string, err error) {
	n.client.Do(func() error {
		conn, err = net.DialTimeout("tcp4", vipTarget, patience)
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	conn.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 4)
	if _, err = io.ReadFull(conn, buf); err != nil {
		conn.Close()
		return nil, "", err
	}
	return conn, string(buf[:3]), nil
}

// taken makes connections and counts them by the real that took them.
func (n *network) taken(connections int) map[string]int {
	n.t.Helper()
	by := map[string]int{}
	for i := range connections {
		conn, name, err := n.connect()
		if err != nil {
			n.t.Fatalf("connection %d of %d: %v", i+1, connections, err)
		}
		by[name]++
		conn.Close()
	}
	return by
}

func echo(t *testing.T, conn net.Conn, size int) {
	t.Helper()
	out := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := conn.Write(out); err != nil {
			t.Errorf("send: %v", err)
		}
	})
	back := make([]byte, len(out))
	if _, err := io.ReadFull(conn, back); err != nil {
		t.Errorf("receive: %v", err)
	} else if !bytes.Equal(out, back) {
		t.Error("what came back is not what was sent")
	}
	wg.Wait()
}

func link(t *testing.T, ns *netnstest.NS, name string) netlink.Link {
	t.Helper()
	l, err := ns.Link.LinkByName(name)
	check(t, err)
	return l
}
