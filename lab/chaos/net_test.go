package chaos

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
)

// host is a machine: a namespace with an address.
type host struct {
	name, site string
	ns         *netnstest.NS
	addr       netip.Addr
	gateway    netip.Addr // the core router of its site

	mu   sync.Mutex
	deaf map[drop]int // what it does not hear, and how many faults want that
}

// drop is packets that are lost on arrival: from a source address, or over a link.
type drop struct {
	from netip.Addr
	link string
}

// network is two sites with a core router each, joined by the DC link, and a place that hangs on both cores: the witness, and the
// clients outside. The latter have their address on lo.
type network struct {
	t     testing.TB
	hosts map[string]*host
	sites map[string]int // hosts at a site so far
}

const dcLink = "dc"

// blocks are the addresses of the sites' hosts, /31 by /31.
var blocks = map[string]netip.Prefix{
	"east": netip.MustParsePrefix("198.51.100.0/25"),
	"west": netip.MustParsePrefix("198.51.100.128/25"),
}

func core(site string) string { return site + "-core" }

func other(site string) string {
	if site == "east" {
		return "west"
	}
	return "east"
}

// newNetwork makes one whose DC link takes a time each way; 0: none.
func newNetwork(t testing.TB, delay time.Duration) *network {
	t.Helper()
	n := &network{t: t, hosts: map[string]*host{}, sites: map[string]int{}}
	for i, site := range []string{"east", "west"} {
		c := n.add(core(site), site, blocks[site].Addr())
		c.sysctl(t, "ipv4/ip_forward")
		n.sites[site] = i // the first host of west is not .129, which would be that of east plus 128
	}
	if delay == 0 {
		n.veth(core("east"), dcLink, "192.0.2.8/31", core("west"), dcLink, "192.0.2.9/31")
	} else {
		n.delayed(core("east"), "192.0.2.8/31", core("west"), "192.0.2.9/31", delay)
	}
	n.route(core("east"), blocks["west"].String(), "192.0.2.9", "")
	n.route(core("west"), blocks["east"].String(), "192.0.2.8", "")
	return n
}

func (n *network) add(name, site string, addr netip.Addr) *host {
	h := &host{name: name, site: site, ns: netnstest.New(n.t), addr: addr, deaf: map[drop]int{}}
	n.hosts[name] = h
	return h
}

// join makes a host at a site, with a link to its core that both ends call by the host's name.
func (n *network) join(name, site string) *host {
	n.t.Helper()
	b := blocks[site].Addr().As4()
	b[3] += byte(2 * n.sites[site])
	n.sites[site]++
	gateway := netip.AddrFrom4(b)
	h := n.add(name, site, gateway.Next())
	h.gateway = gateway
	n.veth(core(site), name, gateway.String()+"/31", name, "eth1", h.addr.String()+"/31")
	n.route(name, "0.0.0.0/0", gateway.String(), "")
	return h
}

// between makes a host that hangs on both cores, with an address of its own. links is the first of four addresses for its links.
func (n *network) between(name, addr, links string) *host {
	n.t.Helper()
	h := n.add(name, "third", netip.MustParseAddr(addr))
	lo, err := h.ns.Link.LinkByName("lo")
	proctest.Check(n.t, err)
	own, err := netlink.ParseAddr(addr + "/32")
	proctest.Check(n.t, err)
	proctest.Check(n.t, h.ns.Link.AddrAdd(lo, own))
	at := netip.MustParseAddr(links)
	for _, site := range []string{"east", "west"} {
		near := at.Next()
		n.veth(core(site), name, at.String()+"/31", name, site, near.String()+"/31")
		n.route(core(site), addr+"/32", near.String(), "")
		n.route(name, blocks[site].String(), at.String(), addr)
		at = near.Next()
	}
	return h
}

func (n *network) veth(a, aName, aAddr, b, bName, bAddr string) {
	n.t.Helper()
	netnstest.Veth(n.t, n.hosts[a].ns, aName, netip.MustParsePrefix(aAddr), n.hosts[b].ns, bName, netip.MustParsePrefix(bAddr))
}

// route sets one, with the source that own packets on it get.
func (n *network) route(on, prefix, via, from string) {
	n.t.Helper()
	_, to, err := net.ParseCIDR(prefix)
	proctest.Check(n.t, err)
	proctest.Check(n.t, n.hosts[on].ns.Link.RouteReplace(&netlink.Route{Dst: to, Gw: net.ParseIP(via), Src: net.ParseIP(from)}))
}

func (h *host) sysctl(t testing.TB, names ...string) {
	t.Helper()
	h.ns.Do(func() error {
		for _, name := range names {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte("1"), 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// dial opens a connection from the host.
func (h *host) dial(d net.Dialer, address string) (conn net.Conn, err error) {
	h.ns.Do(func() error {
		conn, err = d.Dial("tcp", address)
		return nil
	})
	return conn, err
}

// lose makes the host lose packets on arrival, or hear them again. Faults may overlap: what two want lost comes back when both
// are healed.
func (h *host) lose(lost bool, drops ...drop) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range drops {
		if lost {
			h.deaf[d]++
		} else if h.deaf[d]--; h.deaf[d] <= 0 {
			delete(h.deaf, d)
		}
	}
	return h.writeDrops()
}

// writeDrops replaces the host's table in one transaction.
func (h *host) writeDrops() error {
	c, err := nftables.New(nftables.WithNetNSFd(h.ns.FD()))
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: "chaos", Family: nftables.TableFamilyINet}
	c.AddTable(table) // so that there is one to delete
	c.DelTable(table)
	if len(h.deaf) > 0 {
		table = c.AddTable(table)
		chain := c.AddChain(&nftables.Chain{
			Name: "arrival", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
		})
		for d := range h.deaf {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: d.match()})
		}
	}
	return c.Flush()
}

func (d drop) match() []expr.Any {
	if d.link != "" {
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(d.link), make([]byte, unix.IFNAMSIZ-len(d.link))...)},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: slices.Clone(d.from.AsSlice())},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}
