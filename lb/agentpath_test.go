package lb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/mtlstest"
	"anycastle/internal/netnstest"
	"anycastle/internal/probe"
	"anycastle/lb/agent"
	"anycastle/lb/real"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	agentVIP4 = netip.MustParseAddrPort("203.0.113.10:25")
	agentVIP6 = netip.MustParseAddrPort("[2001:db8:0:25::10]:25")
	agentOn   = netip.MustParseAddrPort("198.51.100.9:6087")
)

// pairOfHosts is a client and a real on one network, without a balancer between them.
type pairOfHosts struct {
	*network
	real   *netnstest.NS
	config string // of the real
	reader *reading
}

func newPair(t *testing.T) *pairOfHosts {
	t.Helper()
	client, onReal := netnstest.New(t), netnstest.New(t)
	p := &pairOfHosts{network: &network{t: t, client: client, pins: t.TempDir()}, real: onReal}
	check(t, unix.Mount("bpf", p.pins, "bpf", 0, ""))
	t.Cleanup(func() { check(t, unix.Unmount(p.pins, unix.MNT_DETACH)) })
	netnstest.Veth(t, client, "eth1", netip.MustParsePrefix("198.51.100.1/24"), onReal, "eth1", netip.MustParsePrefix("198.51.100.9/24"))
	for ns, addr := range map[*netnstest.NS]string{client: "2001:db8::1/64", onReal: "2001:db8::9/64"} {
		a, err := netlink.ParseAddr(addr)
		check(t, err)
		a.Flags = unix.IFA_F_NODAD
		check(t, ns.Link.AddrAdd(link(t, ns, "eth1"), a))
	}
	for vip, gw := range map[netip.AddrPort]string{agentVIP4: "198.51.100.9", agentVIP6: "2001:db8::9"} {
		host := &net.IPNet{IP: vip.Addr().AsSlice(), Mask: net.CIDRMask(vip.Addr().BitLen(), vip.Addr().BitLen())}
		check(t, client.Link.RouteReplace(&netlink.Route{Dst: host, Gw: net.ParseIP(gw)}))
	}
	ca := mtlstest.NewCA(t)
	files := ca.Host(t, "mx1", []netip.Addr{agentOn.Addr()})
	p.config = fmt.Sprintf("real:\n  uplinks: [eth1]\n  vips: [%v, \"%v\"]\n  agent:\n    tls: {cert: %s, key: %s, ca: %s}\n",
		agentVIP4.Addr(), agentVIP6.Addr(), files.Cert, files.Key, files.CA)
	p.reader = newReading(t, agentOptions{TLS: loadMTLS(t, ca.Host(t, "lb1", nil)).Client, Dial: p.dial})
	p.reader.run([]netip.AddrPort{agentOn})
	return p
}

// dial opens a connection from the client's host.
func (p *pairOfHosts) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	p.client.Do(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return nil
	})
	return conn, err
}

// ask opens a connection to a VIP and holds it until the test ends.
func (p *pairOfHosts) ask(vip netip.AddrPort, wait time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), wait)
	defer cancel()
	conn, err := p.dial(ctx, "tcp", vip.String())
	if err == nil {
		p.t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// askOn asks every few milliseconds until the test ends, whatever comes of it.
func (p *pairOfHosts) askOn(vip netip.AddrPort) {
	ctx, cancel := context.WithCancel(p.t.Context())
	var asking sync.WaitGroup
	p.t.Cleanup(func() {
		cancel()
		asking.Wait()
	})
	asking.Go(func() {
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			once, done := context.WithTimeout(ctx, 5*time.Millisecond)
			if conn, err := p.dial(once, "tcp", vip.String()); err == nil {
				conn.Close()
			}
			done()
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	})
}

// start runs the real with its agent.
func (p *pairOfHosts) start() *node {
	p.t.Helper()
	host := p.network.start(p.real, "real", p.config, "mx1")
	p.reader.next("reports of "+agentOn.String(), reportsCome)
	return host
}

// report waits for a report in which something is true of a port of the real.
func (p *pairOfHosts) report(what string, vip netip.AddrPort, cond func(agent.Port) bool) agent.Port {
	p.t.Helper()
	var found agent.Port
	p.reader.next(what, func(u agentUpdate) bool {
		for _, port := range u.Report.VIPs {
			if u.Err == nil && port.Key().VIP == vip && cond(port) {
				found = port
				return true
			}
		}
		return false
	})
	return found
}

func listening(p agent.Port) bool { return p.Listening }

// TestAgentIsFasterThanTheNextProbe kills a service between two probes while clients come.
func TestAgentIsFasterThanTheNextProbe(t *testing.T) {
	for _, vip := range []netip.AddrPort{agentVIP4, agentVIP6} {
		t.Run(vip.String(), func(t *testing.T) {
			p := newPair(t)
			p.start()
			kill := startService(t, p.real, service{Listen: []string{vip.String()}})
			p.report("a listener", vip, listening)
			p.askOn(vip)

			const interval = 5 * time.Second
			results := make(chan probe.Result, 100)
			ctx, cancel := context.WithCancel(t.Context())
			var probing sync.WaitGroup
			defer probing.Wait()
			defer cancel()
			probing.Go(func() {
				target := probe.Target{Name: "mx1", Addr: vip, Config: &probe.Config{Type: "tcp", Interval: interval, Timeout: time.Second, Fail: 1, Pass: 1}}
				probe.Run(ctx, []probe.Target{target}, func(ctx context.Context, at probe.Target, _ *probe.Advice) error {
					conn, err := p.dial(ctx, "tcp", at.Addr.String())
					if err == nil {
						conn.Close()
					}
					return err
				}, func(r probe.Result) { results <- r })
			})
			if first := <-results; first.Err != nil {
				t.Fatalf("first probe: %v", first.Err)
			}
			kill()
			died := time.Now()
			var v agentVerdict
			// the connections that the service had are reset first, which is no evidence by itself
			u := p.reader.next("a verdict", func(u agentUpdate) bool {
				i := slices.IndexFunc(u.Verdicts, func(v agentVerdict) bool { return v.Conclusive })
				if i >= 0 {
					v = u.Verdicts[i]
				}
				return i >= 0
			})
			took := u.At.Sub(died)
			if v.Kind != verdictRefused || v.Port.VIP != vip {
				t.Errorf("verdict %+v", v)
			}
			select {
			case r := <-results:
				t.Errorf("a probe was there before: %v", r.Err)
			default:
			}
			if took > interval/2 {
				t.Errorf("the verdict came after %v, where probes come every %v", took, interval)
			}
			t.Logf("%s; %v after the service died", v.Why, took.Round(time.Millisecond))
		})
	}
}

// TestAgentSeesAHungService has a service that listens and accepts nothing.
func TestAgentSeesAHungService(t *testing.T) {
	for _, vip := range []netip.AddrPort{agentVIP4, agentVIP6} {
		t.Run(vip.String(), func(t *testing.T) {
			p := newPair(t)
			p.start()
			startService(t, p.real, service{Listen: []string{vip.String()}, Backlog: 1, Hung: true})
			p.report("a listener", vip, listening)
			p.askOn(vip)
			u := p.reader.next("a verdict", func(u agentUpdate) bool { return len(u.Verdicts) > 0 })
			v := u.Verdicts[0]
			if v.Kind != verdictOverflow && v.Kind != verdictUnanswered || !v.Conclusive || v.Port.VIP != vip {
				t.Errorf("verdict %+v", v)
			}
			port := p.report("an overflow", vip, func(p agent.Port) bool { return p.Overflows > 0 })
			if port.Queue <= port.Backlog || !port.Listening || port.SYNs <= port.SYNACKs || u.Report.Load < 1 {
				t.Errorf("load %v, port %+v", u.Report.Load, port)
			}
			t.Log(v.Why)
		})
	}
}

func TestAgentCountsFlows(t *testing.T) {
	p := newPair(t)
	host := p.start()
	startService(t, p.real, service{Listen: []string{":25"}}) // one IPv6 socket for both families
	counts := map[netip.AddrPort]int{agentVIP4: 7, agentVIP6: 5}
	var want []agent.Flow
	var conns []net.Conn
	for vip, n := range counts {
		for range n {
			conn, err := p.ask(vip, patience)
			check(t, err)
			conns = append(conns, conn)
			want = append(want, agent.Flow{Client: netip.MustParseAddrPort(conn.LocalAddr().String()), VIP: vip, Protocol: agent.TCP})
		}
	}
	for vip, n := range counts {
		p.report(fmt.Sprintf("%d flows of %v", n, vip), vip, func(port agent.Port) bool {
			return port.Flows == n && port.SYNs == uint64(n) && port.SYNACKs == uint64(n)
		})
	}
	flows, err := p.reader.flows(agentOn, 100)
	check(t, err)
	sorted := cmpopts.SortSlices(func(a, b agent.Flow) bool { return a.Client.Compare(b.Client) < 0 })
	if diff := cmp.Diff(want, flows, sorted, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
	var shown []real.Status
	if !host.get("/v1/host", &shown) || shown[0].Agent == nil || shown[0].Agent.Readers != 1 || len(shown[0].Agent.VIPs) != 2 || shown[0].Agent.VIPs[0].Flows != 7 {
		t.Errorf("host status %+v", shown)
	}
	for _, c := range conns {
		c.Close()
	}
	for vip := range counts {
		p.report("no flow of "+vip.String(), vip, func(port agent.Port) bool { return port.Flows == 0 })
	}
}

// TestAgentAcrossKill kills the real's process, starts it again, and ends it.
func TestAgentAcrossKill(t *testing.T) {
	p := newPair(t)
	host := p.start()
	kill := startService(t, p.real, service{Listen: []string{agentVIP4.String()}})
	p.report("a listener", agentVIP4, listening)
	for range 5 {
		_, err := p.ask(agentVIP4, patience)
		check(t, err)
	}
	kill()
	refuse := func(n int) {
		t.Helper()
		for range n {
			if _, err := p.ask(agentVIP4, patience); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("with no service: %v", err)
			}
		}
	}
	refuse(3)
	before := p.report("3 refused", agentVIP4, func(port agent.Port) bool { return port.Refused == 3 })
	host.stop(syscall.SIGKILL)
	p.reader.next("the agent is unknown", unknown)
	refuse(2) // the programs count on
	host = p.start()
	after := p.report("5 refused", agentVIP4, func(port agent.Port) bool { return port.Refused == 5 })
	if after.SYNs != before.SYNs+2 || after.SYNACKs != 5 || after.Listening {
		t.Errorf("before a kill %+v, after it %+v", before, after)
	}
	host.stop(syscall.SIGTERM)
	qdiscs, err := p.real.Link.QdiscList(link(t, p.real, "eth1"))
	check(t, err)
	for _, q := range qdiscs {
		if q.Type() == "clsact" {
			t.Error("the qdisc that was made for the programs is still there")
		}
	}
	if _, err := os.Stat(filepath.Join(p.pins, "mx1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pin directory: %v", err)
	}
}

// TestAgentProgramsArePutBack takes the programs away as an administrator does who clears the interface.
func TestAgentProgramsArePutBack(t *testing.T) {
	p := newPair(t)
	p.start()
	startService(t, p.real, service{Listen: []string{agentVIP4.String()}})
	p.report("a listener", agentVIP4, listening)
	eth := link(t, p.real, "eth1")
	clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: eth.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	check(t, p.real.Link.QdiscDel(clsact))
	_, err := p.ask(agentVIP4, patience)
	check(t, err)
	eventually(t, "programs are back", func() bool {
		conn, err := p.ask(agentVIP4, patience)
		check(t, err)
		conn.Close()
		for len(p.reader.updates) > 0 {
			for _, port := range (<-p.reader.updates).Report.VIPs {
				if port.Key().VIP == agentVIP4 && port.SYNs > 0 && port.SYNACKs > 0 {
					return true
				}
			}
		}
		return false
	})
}

// TestAgentIsTakenOutOfTheConfig starts a real without an agent where one with an agent was killed.
func TestAgentIsTakenOutOfTheConfig(t *testing.T) {
	p := newPair(t)
	p.start().stop(syscall.SIGKILL)
	host := p.network.start(p.real, "real", "real:\n  uplinks: [eth1]\n  vips: [203.0.113.10]\n", "mx1")
	eventually(t, "no counting program left", func() bool {
		qdiscs, err := p.real.Link.QdiscList(link(t, p.real, "eth1"))
		check(t, err)
		for _, q := range qdiscs {
			if q.Type() == "clsact" {
				return false
			}
		}
		return true
	})
	host.stop(syscall.SIGTERM)
	if _, err := os.Stat(filepath.Join(p.pins, "mx1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pin directory: %v", err)
	}
}

// TestAgentSeesWhatABalancerSends has connections come encapsulated: they are counted as what is inside.
func TestAgentSeesWhatABalancerSends(t *testing.T) {
	n := newNetwork(t)
	ca := mtlstest.NewCA(t)
	withAgent := func(addr string) string {
		f := ca.Host(t, "mx", []netip.Addr{netip.MustParseAddr(addr)})
		return nodeReal + fmt.Sprintf("  agent:\n    tls: {cert: %s, key: %s, ca: %s}\n", f.Cert, f.Key, f.CA)
	}
	serve(t, n.mx1, "mx1")
	serve(t, n.mx2, "mx2")
	hosts := []*node{
		n.start(n.mx1, "real", withAgent("198.51.100.18"), "mx1"),
		n.start(n.mx2, "real", withAgent("198.51.100.34"), "mx2"),
	}
	balancer := n.start(n.lb, "lb", nodeLB, "lb")
	eventually(t, "both reals active", func() bool {
		return balancer.realState("mx1") == "active" && balancer.realState("mx2") == "active"
	})
	for _, h := range hosts {
		eventually(t, "agent runs", func() bool {
			var s []real.Status
			return h.get("/v1/host", &s) && s[0].Agent != nil
		})
	}
	n.taken(20)
	// probes may come the same way
	eventually(t, "20 connections counted on both together", func() bool {
		var syns, answers uint64
		for _, h := range hosts {
			var s []real.Status
			if !h.get("/v1/host", &s) {
				return false
			}
			for _, p := range s[0].Agent.VIPs {
				syns += p.SYNs
				answers += p.SYNACKs
			}
		}
		return syns >= 20 && answers >= 20
	})
}
