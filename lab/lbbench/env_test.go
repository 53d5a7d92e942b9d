package lbbench

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/daemon"
	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience bounds every wait for something that a process brings about.
const patience = 60 * time.Second

const (
	vip       = "203.0.113.10"
	vipTarget = vip + ":25"
)

// binary is the product, as a user builds it.
var binary string

func TestMain(m *testing.M) {
	if greeting := os.Getenv(greetingEnv); greeting != "" {
		runServer(greeting[0])
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // they mostly wait, for probes and transitions
		panic(err)
	}
	os.Exit(proctest.Main(m, func(at string) { binary = at }))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is the network, and what runs in it.
type site struct {
	t      testing.TB
	client *netnstest.NS
	router *netnstest.NS
	hosts  map[string]*netnstest.NS // lb1, lb2, mx1, …
	addr   map[string]netip.Addr
	dir    string // a folder for each process, with its node file and socket
	pins   string
	binary string // what the next role is started from

	running map[string]*process // by host
}

// newSite builds the network for so many balancers and reals.
func newSite(t testing.TB, lbs, reals int) *site {
	t.Helper()
	s := &site{t: t, client: netnstest.New(t), router: netnstest.New(t), hosts: map[string]*netnstest.NS{},
		addr: map[string]netip.Addr{}, dir: t.TempDir(), pins: t.TempDir(), binary: binary,
		running: map[string]*process{}}
	check(t, unix.Mount("bpf", s.pins, "bpf", 0, ""))
	t.Cleanup(func() { check(t, unix.Unmount(s.pins, unix.MNT_DETACH)) })
	s.join(s.client, 0, "client")
	for i := range lbs {
		s.addHost(fmt.Sprintf("lb%d", i+1), 1+i)
	}
	for i := range reals {
		s.addHost(fmt.Sprintf("mx%d", i+1), 1+lbs+i)
	}
	s.router.Do(func() error {
		for name, value := range map[string]string{
			"ip_forward": "1", "fib_multipath_hash_policy": "1", "conf/all/ignore_routes_with_linkdown": "1",
		} {
			if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
	s.client.Do(func() error { // many connections from one address
		return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("1024 65535"), 0)
	})
	return s
}

func (s *site) addHost(name string, index int) {
	s.hosts[name] = netnstest.New(s.t)
	s.join(s.hosts[name], index, name)
}

// join gives a host its link to the router: 198.51.100.(4n)/30, the router being the first address in it.
func (s *site) join(ns *netnstest.NS, index int, name string) {
	s.t.Helper()
	gateway := netip.AddrFrom4([4]byte{198, 51, 100, byte(4*index + 1)})
	addr := gateway.Next()
	netnstest.Veth(s.t, s.router, "to-"+name, netip.PrefixFrom(gateway, 30), ns, "eth1", netip.PrefixFrom(addr, 30))
	for ns, dev := range map[*netnstest.NS]string{s.router: "to-" + name, ns: "eth1"} {
		link, err := ns.Link.LinkByName(dev)
		check(s.t, err)
		check(s.t, ns.Link.LinkSetMTU(link, 1600)) // room for the outer header, as a data centre's network has it
	}
	check(s.t, ns.Link.RouteReplace(&netlink.Route{Dst: prefix("0.0.0.0/0"), Gw: gateway.AsSlice()}))
	s.addr[name] = addr
}

func prefix(text string) *net.IPNet {
	_, p, err := net.ParseCIDR(text)
	if err != nil {
		panic(err)
	}
	return p
}

// route has the router send packets for the VIP to these hosts, flows shared between them.
func (s *site) route(hosts ...string) {
	s.t.Helper()
	r := &netlink.Route{Dst: prefix(vip + "/32")}
	for _, h := range hosts {
		r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{Gw: s.addr[h].AsSlice()})
	}
	check(s.t, s.router.Link.RouteReplace(r))
}

// process is one that runs in a host.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	log  bytes.Buffer
	dir  string
}

// run starts a program in a host. It is killed with the test.
func (s *site) run(host string, argv ...string) *process {
	s.t.Helper()
	return s.start(s.prepare(host, argv...))
}

func (s *site) prepare(host string, argv ...string) *process {
	p := &process{t: s.t, name: host, cmd: exec.Command(argv[0], argv[1:]...), dir: filepath.Join(s.dir, host)}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	return p
}

func (s *site) start(p *process) *process {
	s.t.Helper()
	s.running[p.name] = p
	s.hosts[p.name].Do(p.cmd.Start) // a process begins in the namespace of the thread that starts it
	s.t.Cleanup(func() { p.stop(syscall.SIGKILL) })
	return p
}

// role starts a role of the binary, such as "lb" or "mail smtp", with a node file of its own, in a mount namespace where /sys/fs/bpf is the host's: what
// is pinned there outlives the process.
func (s *site) role(host, role, node string) *process {
	s.t.Helper()
	dir, pins := filepath.Join(s.dir, host), filepath.Join(s.pins, host)
	check(s.t, os.MkdirAll(dir, 0o700))
	if err := os.Mkdir(pins, 0o700); err != nil && !os.IsExist(err) {
		s.t.Fatal(err)
	}
	file := filepath.Join(dir, "node.yml")
	check(s.t, os.WriteFile(file, []byte(node), 0o600))
	const enter = `mount --bind "$0" /sys/fs/bpf && exec "$@"`
	argv := append([]string{"sh", "-c", enter, pins, s.binary}, strings.Fields(role)...)
	p := s.prepare(host, append(argv, "--config", file, "--run-dir", dir)...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return s.start(p)
}

// stop ends the process and waits for it. A second call does nothing.
func (p *process) stop(sig syscall.Signal) {
	p.t.Helper()
	if p.cmd.ProcessState != nil {
		return
	}
	check(p.t, p.cmd.Process.Signal(sig))
	err := p.cmd.Wait()
	if sig != syscall.SIGKILL && err != nil {
		p.t.Errorf("%s on %v: %v", p.name, sig, err)
	}
	if p.t.Failed() {
		p.t.Logf("%s:\n%s", p.name, p.log.String())
	}
}

// states gives the state of each real that an LB knows, by name; empty while it does not answer.
func (p *process) states(ctx context.Context) map[string]string {
	var reals []struct{ Name, State string }
	states := map[string]string{}
	if daemon.Get(ctx, p.dir, "lb", "/v1/real", &reals) == nil {
		for _, r := range reals {
			states[r.Name] = r.State
		}
	}
	return states
}

// eventually polls a condition that a process brings about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}
