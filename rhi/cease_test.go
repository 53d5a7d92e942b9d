package rhi

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"anycastle/internal/netnstest"
	"anycastle/rhi/bfd"
)

// deafenToBFD has the node lose the packets of BFD that arrive, and no other, until hear is called. With a way that loses all, it
// would be up to chance what TCP still brings to the peer.
func (n *node) deafenToBFD() (hear func()) {
	n.t.Helper()
	n.nft("add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; " +
		"add rule inet deaf in udp dport { 3784, 4784 } drop")
	return func() { n.nft("delete table inet deaf") }
}

// withRawBFD is a router and the namespace of a raw peer, where a node of ours speaks BFD for it: its own BGP waits to be dialled,
// which the router does not do.
func withRawBFD(t *testing.T) (router, raw *node) {
	t.Helper()
	router, raw = newNode(t, "router"), newNode(t, "raw")
	netnstest.Veth(t, router.ns, "eth1", netip.MustParsePrefix("192.0.2.1/25"), raw.ns, "eth1", netip.MustParsePrefix(rawAddr(0)+"/25"))
	const text = `
rhi:
  asn: %d
  router_id: %s
  neighbors: [{name: %s, address: %s, asn: %d, passive: true, bfd: {interval: 200ms, multiplier: 10}}]
`
	router.start(fmt.Sprintf(text, 65001, "198.51.100.1", "raw", rawAddr(0), 65099))
	raw.start(fmt.Sprintf(text, 65099, "198.51.100.99", "router", "192.0.2.1", 65001))
	eventually(t, "BFD", soon, func() bool { s := router.bfd(); return len(s) == 1 && s[0].State == bfd.Up })
	return router, raw
}

// A peer that BFD has lost is told so before anything else (RFC 9384), and let in again.
func TestBFDDownIsSaid(t *testing.T) {
	t.Parallel()
	router, raw := withRawBFD(t)
	p := raw.mustOpen(rawAddr(0))
	p.keepAlive(t)
	eventually(t, "session", soon, func() bool { return router.up("raw") })
	heal := router.deafenToBFD()
	select {
	case <-p.closed:
	case <-time.After(soon):
		t.Fatal("the session goes on")
	}
	if got := p.notice.Load(); got != "\x06\x0a" {
		t.Errorf("the first NOTIFICATION is %x, want Cease, BFD Down", got)
	}
	if got := router.peer("raw").LastError; !strings.HasPrefix(got, "lost by BFD") {
		t.Errorf("show peer: %q", got)
	}
	heal()
	again := raw.mustOpen(rawAddr(0))
	again.keepAlive(t)
	eventually(t, "both again", soon, func() bool { s := router.bfd(); return router.up("raw") && s[0].State == bfd.Up })
}

// FRR and BIRD have BFD, of which their BGP knows nothing: it ends because of what the node says, and comes back.
func TestBFDDownIsHeardByFRRAndBIRD(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct {
		asn   int
		start func(ns *netnstest.NS, node, own string) *foreign
		heard func(f *foreign) bool
	}{
		"frr": {65001, func(ns *netnstest.NS, node, _ string) *foreign {
			return newFRR(t, ns, "frr", frrConfig(node, "secret")+fmt.Sprintf(
				"bfd\n profile fast\n  detect-multiplier 10\n  transmit-interval 200\n  receive-interval 200\n peer %s\n  profile fast\n", node), "bfdd")
		}, func(f *foreign) bool {
			out := f.vtysh("show bgp neighbors")
			return strings.Contains(out, "Notification received (Cease/BFD Down)")
		}},
		"bird": {65002, func(ns *netnstest.NS, node, own string) *foreign {
			return newBIRD(t, ns, "bird", strings.Replace(birdConfig(node, "secret"), "\tpassive on;\n", "\tpassive on;\n\terror wait time 1, 2;\n", 1)+fmt.Sprintf(
				"protocol bfd { interface \"*\" { interval 200 ms; multiplier 10; }; neighbor %s local %s; }\n", node, own))
		}, func(f *foreign) bool {
			log, err := os.ReadFile(f.log())
			return err == nil && strings.Contains(string(log), "Received: Unknown error 6.10")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lb, ns := newNode(t, "lb"), netnstest.New(t)
			ends, _ := dualLink(t, lb, ns, 1)
			router := how.start(ns, ends[0], ends[1])
			lb.start(fmt.Sprintf(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  neighbors: [{name: router, address: %s, asn: %d, password: secret, bfd: {interval: 200ms, multiplier: 10}}]
`, ends[1], how.asn))
			r := &benchRouter{lb: lb, router: router}
			eventually(t, "sessions up", soon, r.up)
			heal := lb.deafenToBFD()
			eventually(t, "NOTIFICATION heard", soon, func() bool { return how.heard(router) })
			heal()
			eventually(t, "sessions up again", soon, r.up)
		})
	}
}

// A peer's BFD has lost us: that is shown in words, and the session is let in again.
func TestBFDDownSaidByPeer(t *testing.T) {
	t.Parallel()
	router, raw := withRawPeers(t, 1)
	p := raw.mustOpen(rawAddr(0))
	eventually(t, "session", soon, func() bool { return router.up("raw0") })
	if _, err := p.Write([]byte(bfdDown)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "reason shown", soon, func() bool {
		return router.peer("raw0").LastError == "notification-received code 6(cease) subcode 10(bfd down)"
	})
	raw.mustOpen(rawAddr(0))
	eventually(t, "session again", soon, func() bool { return router.up("raw0") })
}

// A last message goes to a connection with little in its queue, and to no other. What
// it was sent by does not keep the connection open.
func TestSayLast(t *testing.T) {
	t.Parallel()
	ns, near, diag := connect(t, "192.0.2.0/31", "192.0.2.1/31")
	peer := netip.MustParseAddr("192.0.2.1")
	id, err := diag.find(peer, port(near.LocalAddr()), port(near.RemoteAddr()))
	if err != nil {
		t.Fatal(err)
	}
	f, err := findFile(id)
	if err != nil {
		t.Fatal(err)
	}
	written := func() uint64 {
		c, err := diag.count(peer, id)
		if err != nil {
			t.Fatal(err)
		}
		return c.written
	}
	say := func(when string, f file, want uint64) {
		t.Helper()
		before := written()
		if err := f.sayLast(bfdDown); (err == nil) != (want > 0) {
			t.Errorf("%s: %v", when, err)
		}
		if got := written() - before; got != want {
			t.Errorf("%s: %d bytes were written, want %d", when, got, want)
		}
	}
	say("at rest", f, 21)
	say("another's number by now", file{f.fd, f.cookie + 1}, 0)
	say("no connection", file{}, 0)
	ns.nft("add table inet deaf; add chain inet deaf in { type filter hook input priority 0; policy drop; }")
	for range 2 { // the second is not sent once the first is taken for lost
		if _, err := near.Write(make([]byte, 19)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
	}
	say("two keepalives are not acknowledged", f, 21)
	if _, err := near.Write(make([]byte, 8*1448)); err != nil { // for which there is room, and for more
		t.Fatal(err)
	}
	say("many segments are not acknowledged", f, 0)
	use(t, near, fill)
	say("full", f, 0)
	ns.nft("delete table inet deaf")
	near.Close()
	eventually(t, "closed", soon, func() bool { _, err := diag.count(peer, id); return err != nil })
	if err := f.sayLast(bfdDown); err == nil {
		t.Error("wrote to a closed connection")
	}
	if _, err := findFile(id); err == nil {
		t.Error("found a closed connection")
	}
}
