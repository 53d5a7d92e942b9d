package pod

import (
	"fmt"
	"net/netip"
	"slices"
)

// Roles of nodes, as in the label anycastle-role.
const (
	core       = "core"
	lb         = "lb"
	gss        = "gss"
	mx         = "mx"
	submission = "submission"
	imap       = "imap"
	store      = "store"
	standby    = "standby"
	monitor    = "monitor"
	client     = "client"
	isp        = "isp"
	resolver   = "resolver"
	witness    = "witness"
)

// Layers, as in the label anycastle-layer. outside is also the group of what is at no site.
const (
	outside = "outside"
	network = "network"
	front   = "front"
	back    = "back"
)

// kinds are the front ends, with the ports of their VIPs.
var kinds = []kind{
	{role: mx, vip: "smtp", shared: 25, own: 1, agent: 9705, ports: []port{{"smtp", 25}}},
	{role: submission, vip: "submission", shared: 87, own: 3, agent: 9706, ports: []port{{"submission", 587}, {"submissions", 465}}},
	{role: imap, vip: "imap", shared: 143, own: 2, agent: 9707, ports: []port{{"imap", 143}, {"imaps", 993}}},
}

// kind is a kind of front end, behind one VIP.
type kind struct {
	role, vip   string
	shared, own int // last numbers of the VIPs' addresses
	agent       int // port where a front end says whether it serves or drains
	ports       []port
}

type port struct {
	name   string
	number int
}

// lab is a plan with everything numbered.
type lab struct {
	Plan
	hosts []*host // of the sites, in their order
	keys  keyring
}

// host is a node of a site.
type host struct {
	name   string // of the node, such as east-pod2-mx1
	short  string // without the site
	role   string
	layer  string
	site   int // from 1
	pod    int // from 1; 0: the whole site's
	number int // in the site's block
	nth    int // of its role in the pod at the site, from 1
}

// newLab numbers everything.
func newLab(p Plan) *lab {
	l := &lab{Plan: p, keys: newKeyring(p.Seed)}
	for s := range p.Sites {
		site := s + 1
		l.add(site, 0, core, network, 2, 1)
		l.add(site, 0, gss, network, 1, 5)
		l.add(site, 0, monitor, network, 1, 6)
		for pod := 1; pod <= p.Pods; pod++ {
			next := l.add(site, pod, lb, network, 2, 16*pod)
			for _, k := range kinds {
				next = l.add(site, pod, k.role, front, p.FrontEnds, next)
			}
			next = l.add(site, pod, store, back, p.Stores, next)
			if len(p.Sites) > 1 {
				l.add(site, pod, standby, back, 1, next)
			}
		}
	}
	return l
}

// add makes n hosts of a role, numbered from first on, and gives the number after the last.
func (l *lab) add(site, pod int, role, layer string, n, first int) int {
	for i := range n {
		short := role
		if role != gss && role != monitor && role != standby {
			short = fmt.Sprintf("%s%d", role, i+1)
		}
		short = l.podName(pod) + short
		l.hosts = append(l.hosts, &host{
			name: l.Sites[site-1] + "-" + short, short: short, role: role, layer: layer, site: site, pod: pod, number: first + i, nth: i + 1,
		})
	}
	return first + n
}

// podName is what names have in front in a lab of several pods.
func (l *lab) podName(pod int) string {
	if l.Pods == 1 || pod == 0 {
		return ""
	}
	return fmt.Sprintf("pod%d-", pod)
}

// pick gives the hosts of a role, in their order. 0 stands for any pod or site.
func (l *lab) pick(site, pod int, roles ...string) []*host {
	var list []*host
	for _, h := range l.hosts {
		if (site == 0 || h.site == site) && (pod == 0 || h.pod == pod) && slices.Contains(roles, h.role) {
			list = append(list, h)
		}
	}
	return list
}

func (l *lab) site(h *host) string { return l.Sites[h.site-1] }

// domain is the domain of a pod's mailboxes.
func (l *lab) domain(pod int) string {
	if pod <= 1 {
		return l.Domain
	}
	return fmt.Sprintf("pod%d.%s", pod, l.Domain)
}

// home is the site that a pod's shared VIPs prefer.
func (l *lab) home(pod int) int { return (pod-1)%len(l.Sites) + 1 }

// distance is how many sites come before one in a list that begins with first and goes round.
func (l *lab) distance(first, site int) int { return (site - first + len(l.Sites)) % len(l.Sites) }

// around lists the sites from first on.
func (l *lab) around(first int) []int {
	list := make([]int, len(l.Sites))
	for i := range list {
		list[i] = (first-1+i)%len(l.Sites) + 1
	}
	return list
}

func addr4(a, b, c, d int) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a), byte(b), byte(c), byte(d)})
}

// addr is the address that is the host's name to others.
func (h *host) addr() netip.Addr { return addr4(198, 51, 100, 64*(h.site-1)+h.number) }

// siteBlock holds the addresses of a site's hosts.
func siteBlock(site int) netip.Prefix { return netip.PrefixFrom(addr4(198, 51, 100, 64*(site-1)), 26) }

// link gives the ends of the host's link to a core router.
func (h *host) link(c int) (own, far netip.Addr) {
	far = addr4(10, h.site, c, 2*h.number)
	return far.Next(), far
}

// sharedVIP is the address that all sites announce.
func (k kind) sharedVIP(pod int) netip.Addr { return addr4(203, 0, 113, k.shared+pod-1) }

// ownVIP is the address that one site announces.
func (k kind) ownVIP(pod, site int) netip.Addr {
	return addr4(203, 0, 113, 100*(pod-1)+10*site+k.own)
}

// The addresses that all site selectors answer on, and those of what is outside.
var (
	nameServers  = []netip.Addr{addr4(203, 0, 113, 53), addr4(203, 0, 113, 54)}
	clientAddr   = addr4(192, 0, 2, 1)
	resolverAddr = addr4(192, 0, 2, 53)
	witnessAddr  = addr4(192, 0, 2, 100)
)

// Prefixes of all labs.
const (
	vipPrefix     = "203.0.113.0/24"
	hostPrefix    = "198.51.100.0/24"
	lunPrefix     = "198.51.100.192/26"
	outsidePrefix = "192.0.2.0/24"
)

// isps are those that every site has a line to: core1 to the first, core2 to the second.
var isps = []string{"ispa", "ispb"}

// stranger is a node outside that has an address and a line to each ISP.
type stranger struct {
	name string
	addr netip.Addr
	asn  int
}

// strangers lists them in the order of the ISPs' interfaces. One site needs no witness.
func (l *lab) strangers() []stranger {
	all := []stranger{{client, clientAddr, 64510}, {resolver, resolverAddr, 64511}, {witness, witnessAddr, 64509}}
	if len(l.Sites) == 1 {
		return all[:2]
	}
	return all
}

// ispLink gives the ends of the link of stranger i to an ISP.
func ispLink(i, which int) (own, far netip.Addr) {
	far = addr4(192, 0, 2, 16+4*i+2*which)
	return far.Next(), far
}

// siteLink gives the ends of the link of a site's core router to its ISP.
func siteLink(site, which int) (own, far netip.Addr) {
	far = addr4(192, 0, 2, 32+4*site+2*which)
	return far.Next(), far
}

// peerLink gives the ends of the link between the core routers of a site: that of core c, and the other one's.
func peerLink(site, c int) (own, far netip.Addr) {
	a := addr4(10, site, 0, 0)
	if c == 1 {
		return a, a.Next()
	}
	return a.Next(), a
}

// dcLink gives the ends of the link between core routers c of two sites.
func dcLink(site, other, c int) (own, far netip.Addr) {
	low, high := min(site, other), max(site, other)
	a := addr4(10, 0, c, 2*(3*low+high))
	if site == low {
		return a, a.Next()
	}
	return a.Next(), a
}

// AS numbers, all private. Balancers of a site share one per pod, so that their routes are equally good; so do stores, as routers
// compare the MEDs of one AS only.
func coreASN(site, c int) int    { return 65000 + 10*site + c }
func lbASN(site, pod int) int    { return 65100 + 10*site + pod }
func storeASN(site, pod int) int { return 65200 + 10*site + pod }
func gssASN(site int) int        { return 65300 + site }
func ispASN(which int) int       { return 64501 + which }

// lun is a LUN of a pod.
type lun struct {
	name string
	addr netip.Addr
	home int // site
	nth  int // store of that site
}

// luns lists those of a pod: the first store's of each site, the second's, and so on.
func (l *lab) luns(pod int) []lun {
	var list []lun
	for nth := 1; nth <= l.Stores; nth++ {
		for site := 1; site <= len(l.Sites); site++ {
			n := lun{name: fmt.Sprintf("lun-%s%s%d", l.podName(pod), l.Sites[site-1], nth), home: site, nth: nth}
			n.addr = addr4(198, 51, 100, 192+16*(pod-1)+len(list))
			if len(l.Sites) == 1 { // one store has it alone, at its own address
				n.addr = l.pick(site, pod, store)[nth-1].addr()
			}
			list = append(list, n)
		}
	}
	return list
}
