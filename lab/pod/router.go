package pod

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// How fast a neighbor that falls silent is given up. Those whose silence moves a VIP have half a second for everything; a store
// that is lost has three, and its machine more to do.
const (
	bfd      = "{interval: 100ms, multiplier: 3}"
	storeBFD = "{interval: 250ms, multiplier: 3}" // and a site selector: resolvers ask another address meanwhile
)

// wire is an end of a link, as a node's own file has it.
type wire struct {
	name string
	addr netip.Addr // own
	to   string     // the node at the far end, and its interface
	far  string
	zone string // of the firewall
	mtu  int
}

const (
	outerMTU = 1500 // of the lines to and between the sites, as the Internet's
	innerMTU = 1600 // room for a packet of 1500 bytes and the balancer's outer header
)

// coreWires lists the links of a core router: its ISP, the site's other one, other sites, hosts.
func (l *lab) coreWires(h *host) []wire {
	site, c := h.site, h.nth
	name := func(site, c int) string { return fmt.Sprintf("%s-core%d", l.Sites[site-1], c) }
	own, _ := siteLink(site, c-1)
	peer, _ := peerLink(site, c)
	wires := []wire{
		{"eth1", own, isps[c-1], fmt.Sprintf("eth%d", len(l.strangers())+site), "outside", outerMTU},
		{"eth2", peer, name(site, 3-c), "eth2", "peer", innerMTU},
	}
	for _, other := range l.around(site)[1:] {
		own, _ := dcLink(site, other, c)
		wires = append(wires, wire{l.dcName(site, other), own, name(other, c), l.dcName(other, site), "dc", outerMTU})
	}
	for _, other := range l.pick(site, 0, lb, gss, monitor, mx, submission, imap, store, standby) {
		_, far := other.link(c)
		wires = append(wires, wire{fmt.Sprintf("eth%d", len(wires)+1), far, other.name, fmt.Sprintf("eth%d", c), l.zone(other), innerMTU})
	}
	return wires
}

// dcName is the interface of a core router to another site.
func (l *lab) dcName(site, other int) string { return fmt.Sprintf("eth%d", 2+l.distance(site, other)) }

// zone is the part of the firewall that a host is in.
func (l *lab) zone(h *host) string {
	switch {
	case h.role == monitor:
		return monitor
	case h.role == lb || h.pod > 0:
		return l.podName(h.pod) + map[string]string{network: "lb", front: "front", back: "back"}[h.layer]
	}
	return h.layer
}

// netSection begins a node's file: what it is, and its interfaces. More keys of the section may follow.
func netSection(about string, loopback []netip.Addr, forward bool, wires []wire) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\nnet:\n", strings.ReplaceAll(about, "\n", "\n# "))
	if forward {
		b.WriteString("  forward: true\n")
	}
	fmt.Fprintf(&b, "  loopback: [%s]\n  interfaces:\n", list(loopback, func(a netip.Addr) string { return a.String() + "/32" }))
	for _, w := range wires {
		fmt.Fprintf(&b, "    - {name: %s, addresses: [%v/31]} # %s\n", w.name, w.addr, w.to)
	}
	return b.String()
}

// coreNode is the file of a core router.
func (l *lab) coreNode(h *host) string {
	site, c := h.site, h.nth
	about := fmt.Sprintf("Core router %d of site %s: %s, the other core router, the other sites, and a link to each node of the site.\n"+
		"What it tells whom stands at each neighbor: no ISP hears what another said, so a site is no transit.", c, l.site(h), isps[c-1])
	wires := l.coreWires(h)
	var b strings.Builder
	b.WriteString(netSection(about, []netip.Addr{h.addr()}, true, wires))
	_, peer := peerLink(site, c)
	fmt.Fprintf(&b, "  routes:\n    - {to: default, via: [%v]} # the other core router, while this one has not learned better\n", peer)
	hosts := l.pick(site, 0, lb, gss, monitor, mx, submission, imap, store, standby)
	for _, other := range hosts {
		own, _ := other.link(c)
		fmt.Fprintf(&b, "    - {to: %v/32, via: [%v]} # %s\n", other.addr(), own, other.short)
	}
	b.WriteString(l.firewall(h, wires))
	fmt.Fprintf(&b, "rhi:\n  asn: %d\n  router_id: %v\n  hold: 3s\n  neighbors:\n", coreASN(site, c), h.addr())
	l.coreOutside(&b, h)
	l.coreInside(&b, h, hosts)
	fmt.Fprintf(&b, "  announce: [%v]\n  router: {source: %v}\n", siteBlock(site), h.addr())
	return b.String()
}

// coreOutside writes the neighbors of a core router beyond its site, and the other one of it.
func (l *lab) coreOutside(b *strings.Builder, h *host) {
	site, c := h.site, h.nth
	_, far := siteLink(site, c-1)
	fmt.Fprintf(b, "    - name: %s\n      address: %v\n      asn: %d\n      bfd: %s\n      pass:\n", isps[c-1], far, ispASN(c-1), bfd)
	for _, p := range l.toISP(site) {
		fmt.Fprintf(b, "        - {prefixes: [%s]%s}%s\n", list(p.addrs, func(a netip.Addr) string { return a.String() + "/32" }), p.prepend(), p.why)
	}
	_, far = peerLink(site, c)
	fmt.Fprintf(b, "    - name: %s-core%d\n      address: %v\n      asn: %d\n      passive: %t\n      bfd: %s\n      pass: [{prefixes: [%s, %s, %s]}]\n",
		l.site(h), 3-c, far, coreASN(site, 3-c), c == 1, bfd, vipPrefix, hostPrefix, outsidePrefix)
	for _, other := range l.around(site)[1:] {
		_, far := dcLink(site, other, c)
		fmt.Fprintf(b, "    - name: %s-core%d\n      address: %v\n      asn: %d\n      passive: %t\n      bfd: %s\n      pass: [{prefixes: [%s, %s]}]\n",
			l.Sites[other-1], c, far, coreASN(other, c), site < other, bfd, vipPrefix, hostPrefix)
	}
}

// told is addresses that an ISP hears of, and how many times the AS stands in their path more than once.
type told struct {
	addrs []netip.Addr
	far   int
	why   string
}

func (t told) prepend() string {
	if t.far == 0 {
		return ""
	}
	return fmt.Sprintf(", prepend: %d", 2*t.far)
}

// toISP lists what the core routers of a site pass on to ISPs: shared addresses, the further from their home the less wanted, and
// the site's own.
func (l *lab) toISP(site int) []told {
	byFar := make([][]netip.Addr, len(l.Sites))
	var own []netip.Addr
	for pod := 1; pod <= l.Pods; pod++ {
		far := l.distance(l.home(pod), site)
		for _, k := range kinds {
			byFar[far] = append(byFar[far], k.sharedVIP(pod))
			own = append(own, k.ownVIP(pod, site))
		}
	}
	for i, a := range nameServers {
		far := l.distance(i%len(l.Sites)+1, site)
		byFar[far] = append(byFar[far], a)
	}
	all := []told{{own, 0, " # this site's alone"}}
	for far, addrs := range byFar {
		if len(addrs) > 0 {
			slices.SortFunc(addrs, netip.Addr.Compare)
			why := map[bool]string{true: " # shared, and here at home", false: " # shared, and at home elsewhere"}[far == 0]
			all = append(all, told{addrs, far, why})
		}
	}
	return all
}

// coreInside writes the neighbors of a core router in its site: balancers, the site selector, stores.
func (l *lab) coreInside(b *strings.Builder, h *host, hosts []*host) {
	for _, other := range hosts {
		own, _ := other.link(h.nth)
		asn, detect := 0, bfd
		switch other.role {
		case lb:
			asn = lbASN(other.site, other.pod)
		case gss:
			asn, detect = gssASN(other.site), storeBFD
		case store, standby:
			asn, detect = storeASN(other.site, other.pod), storeBFD
			if len(l.Sites) == 1 {
				continue // a store without replicas announces nothing
			}
		default:
			continue
		}
		fmt.Fprintf(b, "    - {name: %s, address: %v, asn: %d, passive: true, bfd: %s, pass: []}\n", other.name, own, asn, detect)
	}
}

// speaker writes the rhi section of a host that only announces, but for what follows its neighbors.
func (l *lab) speaker(h *host, asn int, detect string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "rhi:\n  asn: %d\n  router_id: %v\n  hold: 3s\n  neighbors:\n", asn, h.addr())
	for c := 1; c <= 2; c++ {
		_, far := h.link(c)
		fmt.Fprintf(&b, "    - {name: %s-core%d, address: %v, asn: %d, bfd: %s}\n", l.site(h), c, far, coreASN(h.site, c), detect)
	}
	return b.String()
}

// hostNet is the net section of a host: a link to each core router, and a default route by both.
func (l *lab) hostNet(h *host, about string, more ...netip.Addr) string {
	var wires []wire
	var via []netip.Addr
	for c := 1; c <= 2; c++ {
		own, far := h.link(c)
		wires = append(wires, wire{name: fmt.Sprintf("eth%d", c), addr: own, to: fmt.Sprintf("core%d", c)})
		via = append(via, far)
	}
	return netSection(about, append([]netip.Addr{h.addr()}, more...), false, wires) +
		fmt.Sprintf("  routes:\n    - {to: default, via: [%v, %v], source: %v}\n", via[0], via[1], h.addr())
}
