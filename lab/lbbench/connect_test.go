package lbbench

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"time"
)

const (
	hashKey  = "000102030405060708090a0b0c0d0e0f"
	nodeReal = "real:\n  uplinks: [eth1]\n  vips: [" + vip + "]\n"
)

// nodeLB gives a balancer's node file for these reals.
func (s *site) nodeLB(farm string, reals ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "lb:\n  uplinks: [eth1]\n  hash_key: %q\n  state_dir: %s\n  farms:\n    - name: smtp\n%s      reals:\n", hashKey, s.t.TempDir(), farm)
	for _, r := range reals {
		fmt.Fprintf(&b, "        - {name: %s, address: %v}\n", r, s.addr[r])
	}
	fmt.Fprintf(&b, "  vips:\n    - {name: smtp, address: %s, port: 25, farm: smtp}\n", vip)
	return b.String()
}

// farmIPIP is probed often, and fails no real that is only slow on a busy machine.
const farmIPIP = "      probes: [{type: tcp, interval: 200ms, timeout: 200ms, fail: 5}]\n"

// balancer is one way to get connections for the VIP to mx1 and mx2 through lb1.
type balancer struct {
	name  string
	start func(s *site)
}

var balancers = []balancer{
	{"anycastle", startAnycastle},
	{"nftables", startNFTables},
	{"haproxy", startHAProxy},
}

// caseOf names a case of a benchmark: ours alone has no peer.
func (bc balancer) caseOf(what string) string {
	if bc.name == balancers[0].name {
		return what
	}
	return what + "/peer=" + bc.name
}

// compare reports the ratio of a rate to ours, which is measured first and kept in ours.
func (bc balancer) compare(b *testing.B, what string, rate float64, ours *float64) {
	if bc.name == balancers[0].name {
		*ours = rate
		return
	}
	if *ours > 0 { // a filter may have left ours out
		b.ReportMetric(rate / *ours, "x/"+what)
	}
}

func startAnycastle(s *site) {
	s.role("mx1", "real", nodeReal)
	s.role("mx2", "real", nodeReal)
	p := s.role("lb1", "lb", s.nodeLB(farmIPIP, "mx1", "mx2"))
	eventually(s.t, "both reals active", func() bool {
		st := p.states(s.t.Context())
		return st["mx1"] == "active" && st["mx2"] == "active"
	})
	s.route("lb1")
}

// startNFTables has the kernel rewrite the destination, and hash the source to choose, as in its manual.
func startNFTables(s *site) {
	rules := fmt.Sprintf(`table ip nat {
	chain prerouting {
		type nat hook prerouting priority dstnat;
		ip daddr %s tcp dport 25 dnat to jhash ip saddr . tcp sport mod 2 map { 0 : %v, 1 : %v }
	}
}`, vip, s.addr["mx1"], s.addr["mx2"])
	s.hosts["lb1"].Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	p := s.run("lb1", "nft", rules)
	check(s.t, p.cmd.Wait())
	// what comes back must pass the balancer, to get the VIP back as its source
	s.sendBack("lb1", "mx1", "mx2")
	s.route("lb1")
}

// sendBack has the router send what the reals answer through a balancer.
func (s *site) sendBack(lb string, reals ...string) {
	for i, real := range reals {
		link, err := s.router.Link.LinkByName("to-" + real)
		check(s.t, err)
		table := 100 + i
		check(s.t, s.router.Link.RouteAdd(&netlink.Route{Dst: prefix("0.0.0.0/0"), Gw: s.addr[lb].AsSlice(), Table: table}))
		rule := netlink.NewRule()
		rule.IifName, rule.Table = link.Attrs().Name, table
		check(s.t, s.router.Link.RuleAdd(rule))
	}
}

func startHAProxy(s *site) {
	config := fmt.Sprintf(`global
	maxconn 8000
defaults
	mode tcp
	timeout connect 5s
	timeout client 1m
	timeout server 1m
listen smtp
	bind 0.0.0.0:25
	server mx1 %v:25
	server mx2 %v:25
`, s.addr["mx1"], s.addr["mx2"])
	file := s.t.TempDir() + "/haproxy.cfg"
	check(s.t, os.WriteFile(file, []byte(config), 0o600))
	lo, err := s.hosts["lb1"].Link.LinkByName("lo")
	check(s.t, err)
	check(s.t, s.hosts["lb1"].Link.AddrAdd(lo, &netlink.Addr{IPNet: prefix(vip + "/32")}))
	s.hosts["lb1"].Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("1024 65535"), 0)
	})
	s.run("lb1", "haproxy", "-db", "-f", file)
	s.route("lb1")
	eventually(s.t, "haproxy answers", func() bool {
		ok := false
		s.client.Do(func() error {
			c, err := s.connect(&net.Dialer{Timeout: time.Second}, vipTarget)
			if ok = err == nil; ok {
				c.Close()
			}
			return nil
		})
		return ok
	})
}

// connectors is how many connections are opened at a time: enough to keep both processors busy.
const connectors = 16

// BenchmarkConnect opens connections, waits for a byte, and closes them, through each balancer and without one. ns/op is
// the time from one to the next. CPU is the whole machine's, client, real and network included; what a balancer takes
// is the difference to "direct". The ratio is that of connections_per_s to ours.
func BenchmarkConnect(b *testing.B) {
	direct := balancer{"direct", func(s *site) {}}
	ours := 0.0
	for _, bc := range append(balancers[:len(balancers):len(balancers)], direct) {
		b.Run(bc.caseOf("connect"), func(b *testing.B) {
			s := newSite(b, 1, 2)
			s.serve("mx1")
			s.serve("mx2")
			bc.start(s)
			target := vipTarget
			if bc.name == direct.name {
				target = net.JoinHostPort(s.addr["mx1"].String(), "25")
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			before := cpuTime(b)
			s.onThreads(connectors, func(int) error {
				d := dialer()
				for left.Add(-1) >= 0 {
					c, err := s.connect(&d, target)
					if err != nil {
						return err
					}
					c.Close()
				}
				return nil
			})
			used := cpuTime(b) - before
			rate := float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "connections_per_s")
			bc.compare(b, "connect", rate, &ours)
			b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu_us_per_connection")
		})
	}
}
