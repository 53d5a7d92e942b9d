package lbbench

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/daemon"
	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/lb"
)

// live is a site with two balancers in one mesh and agents on its reals, and what goes on in it.
type live struct {
	*site
	method     string // of the farm's transitions
	transition time.Duration
	weights    map[string]int // of the farm's reals, by name

	lbs       []*process
	reals     map[string]*process
	servers   map[string]*process
	tls       map[string]mtls.Files
	stateDirs map[string]string
	*traffic
}

const meshKey = "000102030405060708090a0b0c0d0e0f"

// newLive starts everything. All three reals run, and those with a weight are in the farm.
func newLive(t testing.TB, method string, transition time.Duration, weights map[string]int) *live {
	t.Helper()
	l := &live{site: newSite(t, 2, 3), method: method, transition: transition, weights: weights,
		reals: map[string]*process{}, servers: map[string]*process{}, tls: map[string]mtls.Files{}, stateDirs: map[string]string{}}
	ca := mtlstest.NewCA(t)
	for host, addr := range l.addr {
		l.tls[host] = ca.Host(t, host, []netip.Addr{addr})
	}
	for _, host := range []string{"mx1", "mx2", "mx3"} {
		l.reals[host] = l.role(host, "real", nodeReal+"  agent:\n    tls: "+l.files(host)+"\n")
		l.servers[host] = l.serveApart(host)
	}
	for _, host := range []string{"lb1", "lb2"} {
		l.stateDirs[host] = t.TempDir()
		l.lbs = append(l.lbs, l.role(host, "lb", l.node(host)))
	}
	l.eachLB("all reals active", func(p *process) bool {
		states := p.states(t.Context())
		for host := range weights {
			if states[host] != "active" {
				return false
			}
		}
		return true
	})
	l.eachLB("the other balancer is there", func(p *process) bool {
		var peers []struct{ State string }
		return daemon.Get(t.Context(), p.dir, "lb", "/v1/peer-lb", &peers) == nil && len(peers) == 2
	})
	l.route("lb1", "lb2")
	return l
}

func (l *live) files(host string) string {
	f := l.tls[host]
	return fmt.Sprintf("{cert: %s, key: %s, ca: %s}", f.Cert, f.Key, f.CA)
}

// node gives the node file of a balancer.
func (l *live) node(host string) string {
	forward := "ipip"
	if l.method == lb.SecondChance {
		forward = "gue"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "lb:\n  uplinks: [eth1]\n  hash_key: %q\n  state_dir: %s\n  tls: %s\n", hashKey, l.stateDirs[host], l.files(host))
	fmt.Fprintf(&b, "  mesh: {name: %s, listen: %v:7946, key: %q, join: [%v:7946, %v:7946]}\n",
		host, l.addr[host], meshKey, l.addr["lb1"], l.addr["lb2"])
	fmt.Fprintf(&b, "  farms:\n    - name: smtp\n      forward: %s\n      transition: {method: %s, time: %v}\n", forward, l.method, l.transition)
	b.WriteString("      agent: {port: 6087}\n      probes: [{type: tcp, interval: 1s, timeout: 900ms, fail: 5}]\n      reals:\n")
	for _, real := range []string{"mx1", "mx2", "mx3"} {
		if w, ok := l.weights[real]; ok {
			fmt.Fprintf(&b, "        - {name: %s, address: %v, weight: %d}\n", real, l.addr[real], w)
		}
	}
	fmt.Fprintf(&b, "  vips:\n    - {name: smtp, address: %s, port: 25, farm: smtp}\n", vip)
	return b.String()
}

// eachLB waits until something is true of every balancer that runs.
func (l *live) eachLB(what string, cond func(p *process) bool) {
	l.t.Helper()
	for _, p := range l.lbs {
		if p.cmd.ProcessState == nil {
			eventually(l.t, p.name+": "+what, func() bool { return cond(p) })
		}
	}
}

// inTransition says whether slots of the balancer are.
func (l *live) inTransition(p *process) bool {
	var farms []lb.FarmStatus
	return daemon.Get(l.t.Context(), p.dir, "lb", "/v1/farm", &farms) == nil && len(farms) == 1 && farms[0].Moving > 0
}

// steady says whether the balancer answers and no slot is in transition.
func (l *live) steady(p *process) bool {
	var farms []lb.FarmStatus
	return daemon.Get(l.t.Context(), p.dir, "lb", "/v1/farm", &farms) == nil && len(farms) == 1 && farms[0].Moving == 0
}

// command runs a command line against a balancer, and gives a function that waits until it has ended well.
func (l *live) command(p *process, args ...string) (wait func()) {
	l.t.Helper()
	cmd := exec.Command(binary, append(args, "--run-dir", p.dir)...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	check(l.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	l.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
		}
	})
	return func() {
		l.t.Helper()
		if err := <-ended; err != nil {
			l.t.Fatalf("%v: %v\n%s", args, err, out.String())
		}
	}
}

// reweigh has the farm consist of other reals or weights, by a reload of every balancer.
func (l *live) reweigh(weights map[string]int) {
	l.t.Helper()
	l.weights = weights
	for _, p := range l.lbs {
		check(l.t, os.WriteFile(filepath.Join(p.dir, "node.yml"), []byte(l.node(p.name)), 0o600))
		l.command(p, "reload", "lb")()
	}
}

// killLB kills a balancer's process and takes its link down: the router sees that, and sends everything to the other.
func (l *live) killLB(p *process) {
	l.t.Helper()
	p.stop(syscall.SIGKILL)
	link, err := l.hosts[p.name].Link.LinkByName("eth1")
	check(l.t, err)
	check(l.t, l.hosts[p.name].Link.LinkSetDown(link))
}

// stopReal ends a server and its agent, as an operator does who was told that it is safe.
func (l *live) stopReal(host string) {
	l.t.Helper()
	l.servers[host].stop(syscall.SIGKILL)
	l.reals[host].stop(syscall.SIGTERM)
}
