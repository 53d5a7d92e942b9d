package pod

import (
	"fmt"
	"net/netip"
	"strings"
)

// tlsFiles is the certificate of a node, wherever it is needed.
const (
	tlsFiles = "{cert: /etc/anycastle/tls/node.pem, key: /etc/anycastle/tls/node.key, ca: /etc/anycastle/tls/ca.pem}"
	tlsKey   = "  tls: " + tlsFiles + "\n"
)

// mailSection begins that of a node of a pod.
func (l *lab) mailSection(h *host) string {
	return fmt.Sprintf("mail:\n  hostname: %s\n  directory: /etc/anycastle/mailboxes.yml\n%s%s", l.hostname(h), tlsKey, l.lunsOf(h.pod, h.pod))
}

// hostname is the name in banners, such as mx1.east.example.org.
func (l *lab) hostname(h *host) string {
	return fmt.Sprintf("%s.%s.%s", strings.TrimPrefix(h.short, l.podName(h.pod)), l.site(h), l.domain(h.pod))
}

// lunsOf is the key luns with those of some pods.
func (l *lab) lunsOf(from, to int) string {
	var b strings.Builder
	b.WriteString("  luns:\n")
	for pod := from; pod <= to; pod++ {
		for _, n := range l.luns(pod) {
			fmt.Fprintf(&b, "    - name: %s\n      lmtp: %v:2424\n      imap: %v:1993\n      queue: %v:2425\n", n.name, n.addr, n.addr, n.addr)
			if len(l.Sites) == 1 {
				continue
			}
			b.WriteString("      two_site: expose\n      switch_back_after: 8s\n      replica_times: {commit: 1s, state: 500ms}\n      replicas:\n")
			for _, r := range l.replicas(n, pod) {
				fmt.Fprintf(&b, "        - {name: %s, site: %s, addr: \"%v:7400\"}\n", r.name, l.site(r), r.addr())
			}
			fmt.Fprintf(&b, "        - {name: witness, site: third, addr: \"%v:7400\", witness: true}\n", witnessAddr)
		}
	}
	return b.String()
}

// replicas lists the hosts that have a LUN's mail: store and standby of its home, then those of the next site.
func (l *lab) replicas(n lun, pod int) []*host {
	var hosts []*host
	for _, site := range l.around(n.home)[:2] {
		hosts = append(hosts, l.pick(site, pod, store)[n.nth-1], l.pick(site, pod, standby)[0])
	}
	return hosts
}

// frontNode is the file of a front end.
func (l *lab) frontNode(h *host) string {
	var k kind
	for _, k = range kinds {
		if k.role == h.role {
			break
		}
	}
	about := map[string]string{
		mx:         "An MX front end: keeps no mail; hands each message to the store that owns the mailbox before it answers 250.",
		submission: "A submission front end: authenticates users, and queues their mail on their own LUN before it answers 250.",
		imap:       "An IMAP front end: authenticates, finds the active store of the mailbox, splices.",
	}[h.role]
	section := map[string]string{
		mx:         "  smtp:\n    listen: [\":25\"]\n",
		submission: "  submission:\n    listen: [\":587\"]\n    tls_listen: [\":465\"]\n    messages_per_hour: 100000 # a lab's clients are busy\n",
		imap:       "  imap:\n    listen: [\":143\"]\n    tls_listen: [\":993\"]\n",
	}[h.role]
	return l.hostNet(h, about) + fmt.Sprintf("real:\n  uplinks: [eth1, eth2]\n  addresses: [%v]\n  vips: [%v, %v]\n  agent: {listen: \"%v:6087\", look: 400ms, tls: %s}\n",
		h.addr(), k.sharedVIP(h.pod), k.ownVIP(h.pod, h.site), h.addr(), tlsFiles) + l.mailSection(h) + section +
		fmt.Sprintf("    agent_listen: \":%d\" # the balancers hear here that it drains\n    drain_lead: 1s\n    drain_deadline: 3s\n", k.agent)
}

// storeNode is the file of a store or a standby.
func (l *lab) storeNode(h *host) string {
	queue := fmt.Sprintf("    queue: {resolvers: [\"%v:53\"], retry_min: 1s, retry_max: 4s, delay_notice: 0s} # a lab has no time to lose\n", resolverAddr)
	if len(l.Sites) == 1 {
		about := "A store: Maildir on an ordinary file system."
		return l.hostNet(h, about) + l.mailSection(h) +
			fmt.Sprintf("  store:\n    lun: %s\n    path: /var/lib/anycastle\n", l.luns(h.pod)[h.nth-1].name) + queue
	}
	about := "A store: a replica of each LUN that names it. Whoever is active takes the LUN's address and announces it."
	if h.role == standby {
		about = "The standby of the site: a replica of every LUN of the pod that is at home here or has its second site here."
	}
	return l.hostNet(h, about) + l.speaker(h, storeASN(h.site, h.pod), storeBFD) + l.mailSection(h) +
		fmt.Sprintf("  store:\n    node: %s\n    path: /var/lib/anycastle\n", h.name) + queue
}

// lbNode is the file of a balancer.
func (l *lab) lbNode(h *host) string {
	var b strings.Builder
	b.WriteString(l.hostNet(h, "A VIP load balancer. The shared VIPs are announced by all sites, the others by this one alone, for the names that\n"+
		"the site selectors answer. Both balancers of the pod at a site have the same farms, VIPs and hash_key."))
	place := fmt.Sprintf("pod %d at %s", h.pod, l.site(h))
	pair := l.pick(h.site, h.pod, lb)
	fmt.Fprintf(&b, "lb:\n  uplinks: [eth1, eth2]\n  hash_key: \"%s\"\n%s", l.keys.hex("hash of "+place), tlsKey)
	fmt.Fprintf(&b, "  mesh: {listen: \"%v:7946\", name: %s, key: \"%s\", join: [%s]}\n", h.addr(), h.name, l.keys.hex("pair of "+place), members(pair, 7946))
	fmt.Fprintf(&b, "  report: {listen: \"%v:6088\"} # the site selectors hear here how the VIPs stand\n  farms:\n", h.addr())
	for _, k := range kinds {
		fmt.Fprintf(&b, "    - name: %s\n      forward: gue\n      transition: {method: second-chance, time: 5m}\n      agent: {}\n      capacity: 400\n", k.vip)
		fmt.Fprintf(&b, "      probes: # the path to the port, and whether the role behind it is well or drains\n")
		fmt.Fprintf(&b, "        - {type: tcp, port: %d, interval: 1s, timeout: 400ms}\n", k.ports[0].number)
		fmt.Fprintf(&b, "        - {type: agent-check, port: %d, interval: 250ms, timeout: 250ms}\n      reals:\n", k.agent)
		for _, r := range l.pick(h.site, h.pod, k.role) {
			fmt.Fprintf(&b, "        - {name: %s, address: %v}\n", strings.TrimPrefix(r.short, l.podName(h.pod)), r.addr())
		}
	}
	b.WriteString("  vips:\n")
	for _, k := range kinds {
		for _, p := range k.ports {
			fmt.Fprintf(&b, "    - {name: %s, address: %v, port: %d, farm: %s}\n", p.name, k.sharedVIP(h.pod), p.number, k.vip)
		}
		for _, p := range k.ports {
			fmt.Fprintf(&b, "    - {name: %s-%s, address: %v, port: %d, farm: %s}\n", p.name, l.site(h), k.ownVIP(h.pod, h.site), p.number, k.vip)
		}
	}
	b.WriteString(l.speaker(h, lbASN(h.site, h.pod), bfd))
	fmt.Fprintf(&b, "  site: %s\n  gates: {learn: 1s, fail_back: 2s, hold_down: 2s, withdrawals: 20, damping: {half_life: 5s}} # a lab has no time to lose\n", l.site(h))
	fmt.Fprintf(&b, "  mesh: {listen: \"%v:7947\", name: %s, key: \"%s\", join: [%s]}\n",
		h.addr(), h.name, l.keys.hex(fmt.Sprintf("balancers of pod %d", h.pod)), members(l.pick(0, h.pod, lb), 7947))
	return b.String()
}

// members lists where those of a mesh are.
func members(hosts []*host, port int) string {
	return list(hosts, func(h *host) string { return fmt.Sprintf("\"%v:%d\"", h.addr(), port) })
}

// gssNode is the file of a site selector.
func (l *lab) gssNode(h *host) string {
	var b strings.Builder
	b.WriteString(l.hostNet(h, "A global site selector. Each site runs one with the same zones, on the same two addresses; each probes the sites'\n"+
		"VIPs for itself, and hears from the balancers of all sites.", nameServers...))
	all := l.pick(0, 0, gss)
	fmt.Fprintf(&b, "gss:\n  name: %s\n  listen: [\"%v:53\", %s]\n", h.name, h.addr(), list(nameServers, func(a netip.Addr) string { return fmt.Sprintf("\"%v:53\"", a) }))
	if len(all) > 1 {
		fmt.Fprintf(&b, "  mesh: {listen: \"%v:7946\", name: %s, key: \"%s\", join: [%s]} # they share what they see, and orders\n", h.addr(), h.name, l.keys.hex("selectors"), members(all, 7946))
	}
	b.WriteString(tlsKey + "  zones:\n")
	for pod := 1; pod <= l.Pods; pod++ {
		l.zoneOf(&b, pod)
	}
	b.WriteString("  balancers:\n")
	for _, x := range l.pick(0, 0, lb) {
		fmt.Fprintf(&b, "    - {name: %s, site: %s, address: \"%v:6088\"}\n", x.name, l.site(x), x.addr())
	}
	b.WriteString("  answers:\n")
	l.eachName(func(name string, k kind, pod int) {
		for _, site := range l.around(l.home(pod)) {
			fmt.Fprintf(&b, "    - {name: %s-%s, site: %s, addresses: [%v], fail_back: 3s, probes: [{type: tcp, port: %d, interval: 500ms, timeout: 400ms}]}\n",
				name, l.Sites[site-1], l.Sites[site-1], k.ownVIP(pod, site), k.ports[0].number)
		}
	})
	b.WriteString("  answer_groups:\n")
	l.eachName(func(name string, _ kind, pod int) {
		fmt.Fprintf(&b, "    - {name: %s, answers: [%s]}\n", name, list(l.around(l.home(pod)), func(site int) string { return name + "-" + l.Sites[site-1] }))
	})
	b.WriteString("  rules:\n")
	l.eachName(func(name string, k kind, pod int) {
		fmt.Fprintf(&b, "    - {name: %s, domains: [%s], clauses: [{group: %s}]}\n", name, l.serviceName(k, pod), name)
	})
	b.WriteString(l.speaker(h, gssASN(h.site), storeBFD))
	fmt.Fprintf(&b, "  announce: [%s]\n", list(nameServers, func(a netip.Addr) string { return a.String() + "/32" }))
	return b.String()
}

// eachName goes over the services of all pods, with the name that site selectors have for each.
func (l *lab) eachName(f func(name string, k kind, pod int)) {
	for pod := 1; pod <= l.Pods; pod++ {
		for _, k := range kinds {
			f(l.podName(pod)+k.vip, k, pod)
		}
	}
}

// zoneOf writes the zone of a pod's mailboxes.
func (l *lab) zoneOf(b *strings.Builder, pod int) {
	fmt.Fprintf(b, "    - name: %s\n      ttl: 5s\n      primary: ns1.%s\n      contact: hostmaster.%s\n      records: |\n", l.domain(pod), l.Domain, l.Domain)
	fmt.Fprintf(b, "        @    NS  ns1.%s.\n        @    NS  ns2.%s.\n        @    MX  10 smtp.mail\n", l.Domain, l.Domain)
	if pod == 1 {
		fmt.Fprintf(b, "        ns1  A   %v\n        ns2  A   %v\n", nameServers[0], nameServers[1])
	}
}
