package lb

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"anycastle/internal/netnstest"
	"anycastle/lb/real"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

// onLoopback lists the addresses of lo beside its own.
func onLoopback(t *testing.T, ns *netnstest.NS) []string {
	t.Helper()
	addrs, err := ns.Link.AddrList(link(t, ns, "lo"), netlink.FAMILY_V4)
	check(t, err)
	var list []string
	for _, a := range addrs {
		if !a.IP.IsLoopback() {
			list = append(list, a.IP.String())
		}
	}
	slices.Sort(list)
	return list
}

// TestRealAcrossKill kills a real with two VIPs, starts it with one of them, tries to start a second beside it, and ends
// it.
func TestRealAcrossKill(t *testing.T) {
	n := newNetwork(t)
	expect := func(when string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, onLoopback(t, n.mx1)); diff != "" {
			t.Errorf("VIPs on lo %s (-want +got):\n%s", when, diff)
		}
	}
	start := func(config string) *node {
		host := n.start(n.mx1, "real", config, "mx1")
		eventually(t, "decapsulator attached", func() bool {
			var s []real.Status
			return host.get("/v1/host", &s) && len(s[0].Uplinks) == 1
		})
		return host
	}
	two := strings.Replace(nodeReal, "[203.0.113.10]", "[203.0.113.10, 203.0.113.11]", 1)
	host := start(two)
	expect("at first", "203.0.113.10", "203.0.113.11")
	host.stop(syscall.SIGKILL)
	expect("after a kill", "203.0.113.10", "203.0.113.11")

	host = start(nodeReal)
	expect("with one VIP removed from the config", "203.0.113.10")
	second := n.start(n.mx1, "real", two, "mx1")
	if err := second.cmd.Wait(); err == nil || !strings.Contains(second.log.String(), "another process has it") {
		t.Errorf("a second process beside the first ended with %v:\n%s", err, second.log.String())
	}
	expect("after a second process", "203.0.113.10")

	host.stop(syscall.SIGTERM)
	expect("after a clean end")
	var arp []byte
	n.mx1.Do(func() (err error) {
		arp, err = os.ReadFile("/proc/sys/net/ipv4/conf/eth1/arp_ignore")
		return err
	})
	if got := strings.TrimSpace(string(arp)); got != "1" {
		t.Errorf("arp_ignore is %s after the end, want it as it was set", got)
	}
}
