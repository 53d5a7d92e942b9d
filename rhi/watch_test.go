package rhi

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"anycastle/internal/daemon"
	"anycastle/internal/netnstest"
)

// ask reads a status of the speaker's process; the zero value while it does not answer.
func ask[T any](n *node, path string) (v T) {
	_ = daemon.Get(n.t.Context(), n.dir, "rhi", path, &v)
	return v
}

// watched says what a node has seen of the site west.
func (n *node) watched() Watched { return ask[map[string]Watched](n, "/v1/watched")["west"] }

// sees says whether one of west's prefixes is there.
func (n *node) sees(prefix string) bool { return n.watched().Prefixes[netip.MustParsePrefix(prefix)] }

func (n *node) standing(prefix string) int {
	return ask[map[netip.Prefix]int](n, "/v1/standing")[netip.MustParsePrefix(prefix)]
}

// watchRig is a balancer east with a router of its own, and with a look at an FRR that balancer west of the same AS
// announces to.
func watchRig(t *testing.T) (east, router, west *node, frr *foreign, frrEnd string) {
	t.Helper()
	east, router, west = newNode(t, "east"), newNode(t, "router"), newNode(t, "west")
	frrNS := netnstest.New(t)
	frr4, _ := dualLink(t, east, frrNS, 1)
	west4, _ := dualLink(t, west, frrNS, 2)
	link(t, router, east, 3)
	frr = newFRR(t, frrNS, "frr", fmt.Sprintf(`
router bgp 65001
 bgp router-id 198.51.100.1
 no bgp ebgp-requires-policy
 neighbor %[1]s remote-as 65011
 neighbor %[1]s ebgp-multihop 2
 neighbor %[1]s timers 1 3
 neighbor %[2]s remote-as 65011
 neighbor %[2]s timers 1 3
 neighbor %[2]s ttl-security hops 1
`, frr4[0], west4[0]))
	router.start(`
rhi:
  asn: 65002
  router_id: 198.51.100.2
  neighbors: [{name: east, address: 192.0.2.7, asn: 65011, passive: true}]
`)
	east.start(fmt.Sprintf(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  hold: 3s
  announce: [198.51.100.0/25]
  neighbors:
    - {name: router, address: 192.0.2.6, asn: 65002}
    - {name: dead, address: 192.0.2.99, asn: 65009}
    - {name: look, address: %s, asn: 65001, multihop: 2, families: [ipv4, ipv6], watches: [west, far west]}
  router: {pass: [203.0.113.0/24]}
`, frr4[1]))
	west.start(fmt.Sprintf(`
rhi:
  asn: 65011
  router_id: 198.51.100.12
  hold: 3s
  neighbors: [{name: frr, address: %s, asn: 65001}]
`, west4[1]))
	eventually(t, "sessions up", soon, func() bool { return east.up("router") && east.up("look") && west.up("frr") })
	return east, router, west, frr, frr4[0]
}

// A peer that is only watched is sent nothing, and what it sends is seen, with our AS in its path, and goes nowhere.
func TestWatchedPeer(t *testing.T) {
	t.Parallel()
	east, router, west, frr, eastEnd := watchRig(t)
	const others, own = "203.0.113.30/32", "203.0.113.20/32"
	west.set(vip, others)
	eventually(t, "west's routes seen", soon, func() bool { return east.sees(vip) && east.sees(others) })
	eventually(t, "the whole table known", soon, func() bool { return east.watched().Known })
	east.set(vip, own)
	eventually(t, "own routes at the router", soon, func() bool { return router.prefixes() == "198.51.100.0/25 "+vip+" "+own })
	if n := east.standing(vip); n != 1 {
		t.Errorf("%s stands at %d peers, want the router only", vip, n)
	}
	r, _ := east.route(vip)
	if _, there := east.route(others); there || r.Source != Health || len(r.NextHops) > 0 {
		t.Errorf("what the watched peer has sent is among the routes, or disturbs an own one: %+v", r)
	}
	if hops := east.kernel(vip) + east.kernel(others); hops != "" {
		t.Errorf("a watched route is in the kernel, via %s", hops)
	}
	p := east.peer("look")
	if p.Sent != 0 || p.Received != 2 || strings.Join(p.Watches, ",") != "west,far west" {
		t.Errorf("show peer: %+v", p)
	}
	if text := frr.vtysh("show bgp ipv4 unicast neighbors " + eastEnd + " routes"); strings.Contains(text, "203.0.113.") || strings.Contains(text, "198.51.100.0") {
		t.Errorf("FRR was sent\n%s", text)
	}

	changes := ask[int](east, "/v1/changes")
	west.set(others)
	eventually(t, "west's withdrawal seen", soon, func() bool { return !east.sees(vip) && east.sees(others) })
	eventually(t, "told of it", soon, func() bool { return ask[int](east, "/v1/changes") > changes })
	if n := east.standing(vip); n != 1 || !east.watched().Known {
		t.Errorf("after west's withdrawal %s stands at %d peers; watched: %+v", vip, n, east.watched())
	}
	east.set(vip + "@default=3")
	if n := east.standing(vip); n != 0 {
		t.Errorf("withdrawn, %s stands at %d peers", vip, n)
	}
}

// A session that is lost tells nothing: neither that a prefix is there nor that it is not.
func TestWatchedPeerLost(t *testing.T) {
	t.Parallel()
	east, router, west, frr, _ := watchRig(t)
	west.set(vip)
	east.set(vip)
	eventually(t, "seen, known and standing", soon, func() bool { return east.sees(vip) && east.watched().Known && east.standing(vip) == 1 })
	router.end(syscall.SIGTERM)
	eventually(t, "standing nowhere", soon, func() bool { return east.standing(vip) == 0 })
	eth, err := frr.ns.Link.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	if err := frr.ns.Link.LinkSetDown(eth); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing known", soon, func() bool { w := east.watched(); return !w.Known && len(w.Prefixes) == 0 })
	if east.watched().At.IsZero() {
		t.Error("a site that nothing is known of is left out")
	}
	if err := frr.ns.Link.LinkSetUp(eth); err != nil {
		t.Fatal(err)
	}
	eventually(t, "seen and known again", soon, func() bool { return east.sees(vip) && east.watched().Known })
}

func TestWatchesComplaints(t *testing.T) {
	t.Parallel()
	const alone = "\n  dynamic: [{name: racks, prefix: 198.51.100.128/25, asn: 65003}]" // besides the one that is only watched
	const good = `
rhi:
  asn: 65011
  router_id: 198.51.100.3
  neighbors: [{name: look, address: 192.0.2.9, asn: 65002, multihop: 9, families: [ipv4, ipv6], watches: [west]}]` + alone
	if _, err := decode("node.yml", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, complaint string }{
		{"no site", "[west]", "[]", "rhi.neighbors[0].watches: none given; name the sites"},
		{"unnamed site", "[west]", `[""]`, "rhi.neighbors[0].watches[0]: empty; give the name of a site"},
		{"same site", "[west]", "[west, west]", `rhi.neighbors[0].watches[1]: "west" is given twice`},
		{"group", "watches", "group: default, watches", "rhi.neighbors[0].group: nothing is sent to a peer that is only watched"},
		{"prepend", "watches", "prepend: 1, watches", "rhi.neighbors[0].prepend: nothing is sent"},
		{"next hop", "watches", `next_hop: "2001:db8::1", watches`, "rhi.neighbors[0].next_hop: nothing is sent"},
		{"watched range", "asn: 65003", "asn: 65003, watches: [west]", `rhi.dynamic[0].watches: unknown key`},
		{"nobody to announce to", alone, "", "rhi.neighbors: all are only watched"},
	} {
		text := strings.ReplaceAll(good, c.old, c.new)
		if text == good {
			t.Errorf("%s: the case changes nothing", c.name)
		}
		if _, err := decode("node.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: got %v, want %q in it", c.name, err, c.complaint)
		}
	}
}
