package pod

import (
	"fmt"
	"net/netip"
	"strings"
)

// ispNode is the file of an ISP.
func (l *lab) ispNode(which int) string {
	var wires []wire
	var neighbors strings.Builder
	add := func(to string, far, own netip.Addr, asn int) {
		wires = append(wires, wire{name: fmt.Sprintf("eth%d", len(wires)+1), addr: far, to: to})
		fmt.Fprintf(&neighbors, "    - {name: %s, address: %v, asn: %d, passive: true, bfd: %s}\n", to, own, asn, bfd)
	}
	for i, s := range l.strangers() {
		own, far := ispLink(i, which)
		add(s.name, far, own, s.asn)
	}
	for site := range l.Sites {
		own, far := siteLink(site+1, which)
		add(fmt.Sprintf("%s-core%d", l.Sites[site], which+1), far, own, coreASN(site+1, which+1))
	}
	about := fmt.Sprintf("ISP %c: a transit provider. It passes on what its customers announce.", 'A'+which)
	return netSection(about, []netip.Addr{ispAddr(which)}, true, wires) +
		fmt.Sprintf("rhi:\n  asn: %d\n  router_id: %v\n  hold: 3s\n  neighbors:\n%s", ispASN(which), ispAddr(which), neighbors.String()) +
		fmt.Sprintf("  router: {pass: [%s, %s, %s], source: %v}\n", vipPrefix, hostPrefix, outsidePrefix, ispAddr(which))
}

func ispAddr(which int) netip.Addr { return addr4(192, 0, 2, 8+which) }

// strangerNode is the file of a node outside. It speaks BGP with both ISPs, so that one that falls silent is left at once.
func (l *lab) strangerNode(i int) string {
	s := l.strangers()[i]
	about := map[string]string{
		client:   "The outside world: one client with a line to each ISP and an address of its own behind both.",
		resolver: "A recursive resolver, as the client's provider would have one: unbound, where it is installed, knows where example.org is served.",
		witness:  "The third place: it votes on which store is active, and never has mail.",
	}[s.name]
	var wires []wire
	var b strings.Builder
	for which := range isps {
		own, _ := ispLink(i, which)
		wires = append(wires, wire{name: fmt.Sprintf("eth%d", which+1), addr: own, to: isps[which]})
	}
	b.WriteString(netSection(strings.ReplaceAll(about, "example.org", l.Domain), []netip.Addr{s.addr}, false, wires))
	fmt.Fprintf(&b, "rhi:\n  asn: %d\n  router_id: %v\n  hold: 3s\n  neighbors:\n", s.asn, s.addr)
	for which, name := range isps {
		_, far := ispLink(i, which)
		fmt.Fprintf(&b, "    - {name: %s, address: %v, asn: %d, bfd: %s}\n", name, far, ispASN(which), bfd)
	}
	fmt.Fprintf(&b, "  announce: [%v/32]\n  router: {source: %v}\n", s.addr, s.addr)
	if s.name == witness {
		fmt.Fprintf(&b, "mail:\n%s%s  witness: {node: witness, path: /var/lib/anycastle}\n", tlsKey, l.lunsOf(1, l.Pods))
	}
	return b.String()
}

// unbound is the resolver's config. It asks the site selectors; nothing else is there to be asked.
func (l *lab) unbound() string {
	return fmt.Sprintf(`# The recursive resolver of the lab: unbound, with what a lab has no use for left out.
server:
	interface: %[1]v
	outgoing-interface: %[1]v
	ip-freebind: yes # the address comes when the node's network is set up
	access-control: 0.0.0.0/0 allow
	do-ip6: no
	username: ""
	chroot: ""
	directory: "/var/lib/anycastle"
	pidfile: ""
	use-syslog: no
	module-config: "iterator"
	local-zone: "%[2]s." nodefault
	num-threads: 1
	msg-cache-size: 1m
	rrset-cache-size: 1m
	infra-cache-numhosts: 100
remote-control:
	control-enable: no
stub-zone:
	name: %[2]s
	stub-addr: %[3]v
	stub-addr: %[4]v
`, resolverAddr, l.Domain, nameServers[0], nameServers[1])
}
