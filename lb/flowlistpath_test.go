package lb

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"anycastle/internal/daemon"
	"anycastle/internal/mtlstest"
	"anycastle/lb/real"
)

// flowNet has two reals with agents behind a balancer with second chances, and connections of a client.
type flowNet struct {
	*network
	balancer *node
	config   string
	conns    map[netip.AddrPort]net.Conn
	at       map[netip.AddrPort]string // the real that took each
}

func newFlowNet(t *testing.T) *flowNet {
	t.Helper()
	n := &flowNet{network: newNetwork(t), conns: map[netip.AddrPort]net.Conn{}, at: map[netip.AddrPort]string{}}
	ca := mtlstest.NewCA(t)
	files := ca.Host(t, "lb", nil)
	n.config = strings.Replace(nodeLB, "  farms:\n    - name: smtp\n", fmt.Sprintf("  tls: {cert: %s, key: %s, ca: %s}\n", files.Cert, files.Key, files.CA)+
		"  farms:\n    - name: smtp\n      forward: gue\n      transition: {method: second-chance, time: 1h}\n      agent: {}\n", 1)
	serve(t, n.mx1, "mx1")
	serve(t, n.mx2, "mx2")
	for name, address := range map[string]string{"mx1": "198.51.100.18", "mx2": "198.51.100.34"} {
		f := ca.Host(t, name, []netip.Addr{addr(address)})
		ns := n.mx1
		if name == "mx2" {
			ns = n.mx2
		}
		host := n.start(ns, "real", nodeReal+fmt.Sprintf("  agent:\n    tls: {cert: %s, key: %s, ca: %s}\n", f.Cert, f.Key, f.CA), name)
		eventually(t, name+" decapsulates", func() bool { // a real that passes its first probe does not join
			var s []real.Status
			return host.get("/v1/host", &s) && len(s[0].Uplinks) == 1 && s[0].Agent != nil
		})
	}
	n.balancer = n.start(n.lb, "lb", n.config, "lb")
	eventually(t, "both reals active", func() bool {
		return n.balancer.realState("mx1") == StateActive && n.balancer.realState("mx2") == StateActive
	})
	return n
}

// open opens connections and keeps them.
func (n *flowNet) open(connections int) {
	n.t.Helper()
	for range connections {
		conn, name, err := n.connect()
		check(n.t, err)
		n.t.Cleanup(func() { conn.Close() })
		from := netip.MustParseAddrPort(conn.LocalAddr().String())
		n.conns[from], n.at[from] = conn, name
	}
}

// list waits for a list of all the connections.
func (n *flowNet) list() FlowList {
	n.t.Helper()
	var list FlowList
	eventually(n.t, fmt.Sprintf("%d flows listed", len(n.conns)), func() bool {
		list = FlowList{}
		return n.balancer.get("/v1/flow?client=192.0.2.0/24", &list) && list.Total == len(n.conns)
	})
	return list
}

// TestFlowsAreListedWhereTheyAre has connections to two reals, and drains one of these.
func TestFlowsAreListedWhereTheyAre(t *testing.T) {
	n := newFlowNet(t)
	n.open(40)
	count := map[string]int{}
	for _, f := range n.list().Flows {
		count[f.Real]++
		if f.Real != n.at[f.Client] || f.Name != "smtp" || f.Source != FromAgent || f.Elsewhere || f.Slot.Primary != f.Real || f.VIP.String() != vipTarget {
			t.Errorf("%s took %+v", n.at[f.Client], f)
		}
	}
	if count["mx1"] == 0 || count["mx2"] == 0 {
		t.Fatalf("flows %v, want some at both", count)
	}
	check(t, daemon.Post(t.Context(), n.balancer.dir, "lb", "/v1/order", Order{Farm: "smtp", Real: "mx1", Kind: KindDrain}, nil))
	eventually(t, "mx1 drains", func() bool { return n.balancer.realState("mx1") == StateDraining })
	for _, f := range n.list().Flows {
		if f.Real != n.at[f.Client] || f.Elsewhere != (f.Real == "mx1") || f.Slot.Primary != "mx2" || f.Slot.Secondary != f.Real {
			t.Errorf("while mx1 drains, %s has %+v", n.at[f.Client], f)
		}
	}
	n.balancer.stop(syscall.SIGTERM)
}

// post asks what a config would move.
func (n *flowNet) post(text string) (d Diff) {
	n.t.Helper()
	body, err := daemon.Stream(n.t.Context(), n.balancer.dir, "lb", "POST", "/v1/diff?"+DiffQuery("new.yml", 100).Encode(), []byte(text))
	check(n.t, err)
	defer body.Close()
	check(n.t, json.NewDecoder(body).Decode(&d))
	return d
}

// with gives the balancer's node file with something else in place of a part of it.
func (n *flowNet) with(old, new string) string {
	n.t.Helper()
	text, err := os.ReadFile(n.balancer.dir + "/node.yml")
	check(n.t, err)
	if !strings.Contains(string(text), old) {
		n.t.Fatalf("no %q in the node file", old)
	}
	return strings.Replace(string(text), old, new, 1)
}

func (n *flowNet) reload(text string) {
	n.t.Helper()
	check(n.t, os.WriteFile(n.balancer.dir+"/node.yml", []byte(text), 0o600))
	check(n.t, daemon.Post(n.t.Context(), n.balancer.dir, "lb", "/v1/reload", nil, nil))
}
