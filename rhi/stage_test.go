package rhi

import (
	"strings"
	"syscall"
	"testing"
)

// TestRouterComesAndGoes has two routers on the way from b to c. Whoever of them comes or goes lets c have the other first.
func TestRouterComesAndGoes(t *testing.T) {
	t.Parallel()
	b, m, n, c := newNode(t, "b"), newNode(t, "m"), newNode(t, "n"), newNode(t, "c")
	link(t, b, m, 1)
	link(t, b, n, 2)
	link(t, c, m, 3)
	link(t, c, n, 4)
	b.start(`
rhi:
  asn: 65002
  router_id: 198.51.100.2
  neighbors: [{name: m, address: 192.0.2.3, asn: 65001, passive: true}, {name: n, address: 192.0.2.5, asn: 65011, passive: true}]
`)
	c.start(`
rhi:
  asn: 65003
  router_id: 198.51.100.3
  neighbors: [{name: m, address: 192.0.2.7, asn: 65001, passive: true}, {name: n, address: 192.0.2.9, asn: 65011, passive: true}]
  router: {}
`)
	n.start(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  neighbors: [{name: b, address: 192.0.2.4, asn: 65002}, {name: c, address: 192.0.2.8, asn: 65003}]
  router: {pass: [203.0.113.0/24]}
`)
	const text = `
rhi:
  asn: 65001
  router_id: 198.51.100.1
  neighbors:
    - {name: b, address: 192.0.2.2, asn: 65002}
    - {name: c, address: 192.0.2.6, asn: 65003}
`
	const byM, byN = "192.0.2.7", "192.0.2.9"
	at := func(want string) {
		t.Helper()
		eventually(t, "c's way to b is by "+want, soon, func() bool { return c.kernel(vip) == want })
	}

	b.set(vip)
	m.start(text + "  router: {pass: [203.0.113.0/24], leave: 1m}\n")
	at(byM + " " + byN)
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	at(byN)
	if hop := m.kernel(vip); !c.up("m") || hop != "192.0.2.2" {
		t.Errorf("c goes elsewhere when m is gone, session up: %v, m forwards to %q", c.up("m"), hop)
	}
	m.end(syscall.SIGKILL) // a minute is long

	m.start(text + "    - {name: absent, address: 198.51.100.99, asn: 65099, passive: true}\n  router: {pass: [203.0.113.0/24], settle: 1m}\n")
	eventually(t, "m has b and c again", soon, func() bool { _, ok := m.route(vip); return ok && m.up("c") })
	if r, _ := m.route(vip); r.PassedOn || !strings.Contains(r.Why, "waits for absent") {
		t.Errorf("m passes on before all have come: %v, %q", r.PassedOn, r.Why)
	}
	if _, ok := c.route(vip); !ok || c.kernel(vip) != byN || c.peer("m").Received != 0 {
		t.Errorf("c goes by %q and has %d routes of m", c.kernel(vip), c.peer("m").Received)
	}
	m.end(syscall.SIGKILL)

	m.start(text + "  router: {pass: [203.0.113.0/24], settle: 1m, leave: 100ms}\n")
	at(byM + " " + byN)
	if r, _ := m.route(vip); !r.PassedOn {
		t.Errorf("all have come and m does not pass on: %q", r.Why)
	}
	m.end(syscall.SIGTERM)
	at(byN)
	if hop := m.kernel(vip); hop != "" {
		t.Errorf("m leaves a kernel route behind: %q", hop)
	}
}
