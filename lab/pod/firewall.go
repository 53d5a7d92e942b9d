package pod

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Zones of a core router's firewall that are no layer of a pod. What comes from the other core router or another site has passed
// the rules there; here it is looked at again.
const (
	peerZone = "peer"
	dcZone   = "dc"
)

// Ports that the roles listen on.
const (
	dnsPort      = 53
	selectorMesh = 7946 // of site selectors, and of the balancers of a pod at a site
	balancerMesh = 7947 // of a pod's balancers at all sites
	reportPort   = 6088 // what balancers tell site selectors
	agentPort    = 6087 // of a real's agent
	replicaPort  = 7400
)

// lunPorts are LMTP, the queue and IMAP of a LUN.
var lunPorts = []int{2424, 2425, 1993}

// flow is traffic that the firewall lets pass, with its answers.
type flow struct {
	why      string
	from, to []string       // zones; those that the router has not are left out
	src, dst []netip.Prefix // any when empty
	protos   []string
	ports    []int
}

// firewall is the key firewall of a core router's net section: what may talk to what. A flow between layers is named by zones and by
// addresses: by zones because a packet cannot lie about its cable, by addresses because by the cable to the other core router
// or another site anything may come. A flow that sites have with each other may come by the ISPs, when the cables between them
// are cut.
func (l *lab) firewall(_ *host, wires []wire) string {
	members := map[string][]string{}
	var zones []string
	for _, w := range wires {
		if members[w.zone] == nil {
			zones = append(zones, w.zone)
		}
		members[w.zone] = append(members[w.zone], w.name)
	}
	var b strings.Builder
	b.WriteString("  firewall: # what is passed on between the layers, and nothing else; answers need no rule of their own\n    zones:\n")
	for _, z := range zones {
		fmt.Fprintf(&b, "      %s: [%s]\n", z, strings.Join(members[z], ", "))
	}
	b.WriteString("    allow:\n")
	flows := l.siteFlows()
	for pod := 1; pod <= l.Pods; pod++ {
		flows = append(flows, l.podFlows(pod)...)
	}
	for _, f := range flows {
		f.write(&b, zones)
	}
	return b.String()
}

// write renders a flow, unless the router has no zone at an end of it.
func (f flow) write(b *strings.Builder, zones []string) {
	has := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(z string) bool { return !slices.Contains(zones, z) })
	}
	from, to := has(f.from), has(f.to)
	if len(from) == 0 || len(to) == 0 {
		return
	}
	fmt.Fprintf(b, "      # %s\n", f.why)
	for _, proto := range f.protos {
		fmt.Fprintf(b, "      - {from: [%s], to: [%s]", strings.Join(from, ", "), strings.Join(to, ", "))
		for _, side := range []struct {
			key      string
			prefixes []netip.Prefix
		}{{"from_prefixes", f.src}, {"to_prefixes", f.dst}} {
			if len(side.prefixes) > 0 {
				fmt.Fprintf(b, ", %s: [%s]", side.key, list(side.prefixes, netip.Prefix.String))
			}
		}
		fmt.Fprintf(b, ", proto: %s", proto)
		if len(f.ports) > 0 {
			fmt.Fprintf(b, ", ports: [%s]", list(f.ports, func(p int) string { return fmt.Sprint(p) }))
		}
		b.WriteString("}\n")
	}
}

var (
	tcp  = []string{"tcp"}
	both = []string{"udp", "tcp"}
)

// near adds to zones what may carry them to the other core router, far what may carry them to another site.
func near(zones ...string) []string { return append(zones, peerZone) }
func far(zones ...string) []string  { return append(zones, peerZone, dcZone, outside) }

// hostPrefixes are the addresses of the hosts of some roles, at all sites. Pod 0 is any.
func (l *lab) hostPrefixes(pod int, roles ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, h := range l.pick(0, pod, roles...) {
		list = append(list, netip.PrefixFrom(h.addr(), 32))
	}
	return list
}

func single(addrs ...netip.Addr) []netip.Prefix {
	var list []netip.Prefix
	for _, a := range addrs {
		list = append(list, netip.PrefixFrom(a, 32))
	}
	return list
}

// siteFlows are those of what a site has once.
func (l *lab) siteFlows() []flow {
	selectors := l.hostPrefixes(0, gss)
	var balancers []string
	for pod := 1; pod <= l.Pods; pod++ {
		balancers = append(balancers, l.podName(pod)+lb)
	}
	return []flow{
		{"names: anyone may ask a site selector", []string{outside, peerZone, dcZone, monitor}, []string{network, peerZone, dcZone},
			nil, append(single(nameServers...), selectors...), both, []int{dnsPort}},
		{"site selectors share what they see", far(network), far(network), selectors, selectors, both, []int{selectorMesh}},
		{"site selectors hear from balancers", far(network), far(balancers...), selectors, l.hostPrefixes(0, lb), tcp, []int{reportPort}},
	}
}

// podFlows are those of one pod: another pod's zones and addresses are in none of them.
func (l *lab) podFlows(pod int) []flow {
	at := l.podName(pod)
	lbs, fronts, backs := at+lb, at+front, at+back
	frontHosts, storeHosts := l.hostPrefixes(pod, mx, submission, imap), l.hostPrefixes(pod, store, standby)
	var luns []netip.Addr
	for _, n := range l.luns(pod) {
		luns = append(luns, n.addr)
	}
	lunPrefixes := single(luns...)
	voters := append(single(witnessAddr), storeHosts...)
	flows := l.vipFlows(pod)
	for _, k := range kinds {
		flows = append(flows, flow{"balancers look at the " + k.vip + " front ends", near(lbs), near(fronts),
			l.hostPrefixes(pod, lb), l.hostPrefixes(pod, k.role), tcp, append([]int{agentPort, k.agent}, k.numbers()...)})
	}
	flows = append(flows,
		flow{"balancers send to front ends, and a front end passes on what is not its own", near(lbs, fronts), near(fronts),
			nil, frontHosts, []string{"gue"}, nil},
		flow{"balancers of the pod agree", far(lbs), far(lbs), l.hostPrefixes(pod, lb), l.hostPrefixes(pod, lb), both, []int{selectorMesh, balancerMesh}},
		flow{"front ends talk to the LUNs, and the queue of one LUN to the others", far(fronts, backs), far(backs),
			slices.Concat(frontHosts, storeHosts, lunPrefixes), lunPrefixes, tcp, lunPorts},
		flow{"the monitor looks at the LUNs", far(monitor), far(backs), l.hostPrefixes(0, monitor), lunPrefixes, tcp, lunPorts},
		flow{"replicas of the LUNs, and the witness", far(backs), far(backs), voters, voters, tcp, []int{replicaPort}},
		flow{"the queue asks the resolver", near(backs), near(outside), storeHosts, single(resolverAddr), both, []int{dnsPort}},
		flow{"the queue sends mail", near(backs), near(outside), slices.Concat(storeHosts, lunPrefixes), nil, tcp, []int{25}},
	)
	if len(l.Sites) == 1 { // nobody else has a replica
		flows = slices.DeleteFunc(flows, func(f flow) bool { return slices.Equal(f.ports, []int{replicaPort}) })
	}
	return flows
}

// numbers lists the ports of a kind's VIPs.
func (k kind) numbers() []int {
	var all []int
	for _, p := range k.ports {
		all = append(all, p.number)
	}
	return all
}

// vipFlows let clients reach the VIPs of a pod. The answer comes from the front end itself, which is why its zone is among those
// that a packet to a VIP may go to.
func (l *lab) vipFlows(pod int) []flow {
	at := l.podName(pod)
	lbs, fronts := at+lb, at+front
	var all []netip.Prefix
	var flows []flow
	for _, k := range kinds {
		vips := single(k.sharedVIP(pod))
		for site := range l.Sites {
			vips = append(vips, single(k.ownVIP(pod, site+1))...)
		}
		all = append(all, vips...)
		from := []string{outside, peerZone, dcZone, network, monitor, lbs} // a balancer looks at its reals as a client does, by the tunnel
		for other := 1; k.role == mx && other <= l.Pods; other++ {
			from = append(from, l.podName(other)+back) // its queue, with mail for our own domains: no other pod's goes by the Internet
		}
		flows = append(flows, flow{k.vip + ": anyone", from, []string{lbs, fronts, peerZone, dcZone}, nil, vips, tcp, k.numbers()})
	}
	return append(flows, flow{"ping a VIP", []string{outside, peerZone, dcZone, monitor}, []string{lbs, peerZone, dcZone}, nil, all, []string{"icmp"}, nil})
}
