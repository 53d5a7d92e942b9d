package rhi

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"anycastle/internal/config"
)

const (
	defaultGroup    = "default"
	defaultMaxPeers = 16
	maxMaxPeers     = 1024
	maxPassword     = 80 // TCP_MD5SIG_MAXKEYLEN of the kernel
	maxTTL          = 255
)

// Family is an address family of routes: ipv4 or ipv6.
type Family string

// The families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Family) UnmarshalText(text []byte) error {
	*f = Family(text)
	if *f != IPv4 && *f != IPv6 {
		return fmt.Errorf("no family: %s", text)
	}
	return nil
}

// Kind says what a Family looks like, for complaints about a config.
func (f *Family) Kind() string { return "a family of routes; use ipv4 or ipv6" }

func routeFamily(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Neighbor is one BGP peer, on a link of the node unless `multihop` says how far away it is.
type Neighbor struct {
	Name    string     `yaml:"name"`    // the peer's name in logs, metrics and `show peer`; required, unique
	Address netip.Addr `yaml:"address"` // IPv4 or IPv6, a link-local one with its link, such as fe80::1%eth0; required, unique
	ASN     uint32     `yaml:"asn"`     // AS number of the peer, another than the own one; required
	Local   netip.Addr `yaml:"local"`   // own address that the session is from, and that routes lead to; default the kernel's choice
	Passive bool       `yaml:"passive"` // wait for the peer to dial instead of dialling it; default false. Any passive neighbor makes the node listen on port 179.
	BFD     *BFD       `yaml:"bfd"`     // presence has its loss noticed by BFD; absent: by the hold time, and at once when its process ends
	Watches []string   `yaml:"watches"` // sites whose VIPs' routes the peer has: it is sent nothing, and what it sends is looked at only; default none
	Peering `yaml:",inline"`
}

// Dynamic is a range of addresses from which peers may dial; the node listens on port 179 for them.
type Dynamic struct {
	Name     string       `yaml:"name"`      // the name of all its peers in logs, metrics and `show peer`; required, unique among those of neighbors
	Prefix   netip.Prefix `yaml:"prefix"`    // where its peers dial from; required, overlaps no other. A neighbor inside it stays a neighbor.
	ASN      uint32       `yaml:"asn"`       // AS number of all its peers; required
	MaxPeers int          `yaml:"max_peers"` // further ones are turned away; default 16
	Peering  `yaml:",inline"`
}

// SetDefaults implements config.Defaulter.
func (d *Dynamic) SetDefaults() { d.MaxPeers = defaultMaxPeers }

// Peering is how to speak with a peer.
type Peering struct {
	Group        string     `yaml:"group"`         // the peers that climb one ladder together; default "default", any other is a key of `groups`
	Families     []Family   `yaml:"families"`      // routes that are exchanged: [ipv4], [ipv6] or both; default that of the address
	NextHop      netip.Addr `yaml:"next_hop"`      // own IPv6 address that IPv6 routes lead to; needed if they go over an IPv4 session, of no use elsewhere
	Password     string     `yaml:"password"`      // TCP MD5 (RFC 2385), up to 80 characters; default none
	PasswordFile string     `yaml:"password_file"` // a file that holds nothing but the password
	MaxPrefixes  uint32     `yaml:"max_prefixes"`  // of each family; a peer that sends more is cut off for a minute; default no limit
	Multihop     int        `yaml:"multihop"`      // how many hops away the peer may be, 2 to 255; default: on a link of the node, which the TTL must show (GTSM, RFC 5082)
	Prepend      int        `yaml:"prepend"`       // own AS this many more times (0 to 10) in what is sent to this peer, which makes this way the backup; default 0
	Pass         []Pass     `yaml:"pass"`          // learned routes that a router passes on to this peer, the first that covers one decides; default router.pass
}

// SetDefaults implements config.Defaulter.
func (p *Peering) SetDefaults() { p.Group = defaultGroup }

// peers is a neighbor or a range of dynamic ones: those that one set of rules holds for.
type peers struct {
	name    string
	where   netip.Prefix
	watched bool // sent nothing, and what it sends goes nowhere
	Peering
}

func (n *Neighbor) peers() peers {
	return peers{n.Name, netip.PrefixFrom(n.Address, n.Address.BitLen()), n.watched(), n.Peering}
}

func (d *Dynamic) peers() peers { return peers{d.Name, d.Prefix, false, d.Peering} }

// allPeers lists the neighbors and then the ranges, in which neighbors may lie.
func (c *Config) allPeers() []peers {
	var all []peers
	for _, n := range c.Neighbors {
		all = append(all, n.peers())
	}
	for _, d := range c.Dynamic {
		all = append(all, d.peers())
	}
	return all
}

// audience lists those of allPeers that are announced to.
func (c *Config) audience() []peers {
	return slices.DeleteFunc(c.allPeers(), func(p peers) bool { return p.watched })
}

// listenAddresses lists where peers may dial: 0.0.0.0, :: or both, and nothing by default.
func (c *Config) listenAddresses() []string {
	var list []string
	for _, n := range c.Neighbors {
		if n.Passive {
			list = append(list, unspecified(n.Address).String())
		}
	}
	for _, d := range c.Dynamic {
		list = append(list, unspecified(d.Prefix.Addr()).String())
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// families lists what is exchanged with the peers.
func (p peers) families() []Family {
	if len(p.Families) == 0 {
		return []Family{routeFamily(p.where.Addr())}
	}
	return p.Families
}

// secret gives the password, "" for none.
func (p Peering) secret() (string, error) {
	if p.PasswordFile == "" {
		return p.Password, nil
	}
	text, err := os.ReadFile(p.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 || len(text) > maxPassword || bytes.ContainsAny(text, "\r\n") {
		return "", fmt.Errorf("read password: %s holds none; write one line of 1 to %d characters", p.PasswordFile, maxPassword)
	}
	return string(text), nil
}

func (c *Config) validateNeighbors(at config.Cursor) {
	switch {
	case len(c.allPeers()) == 0:
		at.Key("neighbors").Errorf("none given; list at least one peer to announce to")
	case len(c.audience()) == 0:
		at.Key("neighbors").Errorf("all are only watched, which leaves nobody to announce to; add one without `watches`")
	}
	names := map[string]bool{}
	addresses := map[netip.Addr]bool{}
	for i, n := range c.Neighbors {
		at := at.Key("neighbors").Index(i)
		validateName(at.Key("name"), n.Name, names)
		c.validateAddress(at.Key("address"), n.Address, addresses)
		n.validateLocal(at.Key("local"))
		n.validateLinkLocal(at, c.Neighbors[:i])
		c.validatePeerASN(at.Key("asn"), n.ASN)
		c.validatePeering(at, n.peers())
		n.validateBFD(at.Key("bfd"))
		n.validateWatches(at)
	}
	for i, d := range c.Dynamic {
		at := at.Key("dynamic").Index(i)
		validateName(at.Key("name"), d.Name, names)
		validateRange(at.Key("prefix"), d.Prefix, c.Dynamic[:i])
		c.validatePeerASN(at.Key("asn"), d.ASN)
		if d.MaxPeers < 1 || d.MaxPeers > maxMaxPeers {
			at.Key("max_peers").Errorf("%d is out of range; use 1 to %d", d.MaxPeers, maxMaxPeers)
		}
		if d.Multihop > 0 && d.Password == "" && d.PasswordFile == "" {
			at.Key("multihop").Errorf("anybody may dial from afar in such a range; add a password or leave multihop out")
		}
		c.validatePeering(at, d.peers())
	}
}

func validateName(at config.Cursor, name string, seen map[string]bool) {
	switch {
	case name == "":
		at.Errorf("missing; name the peer, it is what `show peer` will call it")
	case seen[name]:
		at.Errorf("%q names two neighbors; give each its own name", name)
	}
	seen[name] = true
}

// validateLocal checks the own address of a session.
func (n *Neighbor) validateLocal(at config.Cursor) {
	switch a := n.Local; {
	case !a.IsValid() || !n.Address.IsValid():
	case linkLocal(n.Address):
		at.Errorf("the session with a link-local neighbor is from the own link-local address; remove it")
	case a.Is4() != n.Address.Is4() || a.Is4In6():
		at.Errorf("%v and the neighbor's %v are not of one IP version; give an own address of the neighbor's", a, n.Address)
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "":
		at.Errorf("%v is no address of this node that others reach", a)
	case a == n.Address:
		at.Errorf("%v is the neighbor's own; give this node's", a)
	}
}

func (c *Config) validateAddress(at config.Cursor, a netip.Addr, seen map[netip.Addr]bool) {
	switch {
	case !a.IsValid():
		at.Errorf("missing; give the peer's address on the shared link")
	case a.Is4In6():
		at.Errorf("%v is an IPv4 address in IPv6 form; write %v", a, a.Unmap())
	case a.Zone() != "" && !a.IsLinkLocalUnicast():
		at.Errorf("%v is not link-local and needs no link; write %v", a, a.WithZone(""))
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
		at.Errorf("%v is no address of another host; use the peer's address on the shared link", a)
	case a == c.RouterID:
		at.Errorf("%v is this node's router_id; a node is not its own neighbor", a)
	case seen[a]:
		at.Errorf("%v stands for two neighbors; keep one", a)
	}
	seen[a] = true
}

func validateRange(at config.Cursor, p netip.Prefix, others []Dynamic) {
	a := p.Addr()
	switch {
	case !p.IsValid():
		at.Errorf("missing; give the prefix that peers dial from, such as 192.0.2.0/24")
	case a.Is4In6():
		at.Errorf("%v is an IPv4 prefix in IPv6 form; write it as IPv4", p)
	case p != p.Masked():
		at.Errorf("%v has bits set beyond its length; write %v", p, p.Masked())
	case a.IsMulticast() || a.IsLoopback() || a.Is6() && a.IsLinkLocalUnicast():
		at.Errorf("no peer dials from %v; use the prefix of a shared link", p)
	}
	for _, o := range others {
		if p.Overlaps(o.Prefix) {
			at.Errorf("%v overlaps that of %q; keep the ranges apart", p, o.Name)
		}
	}
}

func (c *Config) validatePeerASN(at config.Cursor, asn uint32) {
	checkASN(at, asn)
	if asn != 0 && asn == c.ASN {
		at.Errorf("%d is the own AS, and this version speaks no iBGP; give the peer an AS number of its own", asn)
	}
}

// validatePeering checks what neighbors and ranges have in common.
func (c *Config) validatePeering(at config.Cursor, p peers) {
	c.validateGroup(at.Key("group"), p.Group)
	if at.Has("families") && len(p.Families) == 0 {
		at.Key("families").Errorf("none given; use [ipv4], [ipv6] or [ipv4, ipv6]")
	}
	for i, f := range p.Families {
		if slices.Contains(p.Families[:i], f) {
			at.Key("families").Index(i).Errorf("%s is given twice; keep one", f)
		}
	}
	mapped := p.where.Addr().Is4() && slices.Contains(p.Families, IPv6) && !p.watched
	switch hop := p.NextHop; {
	case mapped && !hop.IsValid():
		at.Key("families").Errorf("IPv6 routes over an IPv4 session need next_hop; give the own IPv6 address on that link")
	case hop.IsValid() && !mapped:
		at.Key("next_hop").Errorf("only IPv6 routes over an IPv4 session need it; remove it")
	case hop.IsValid() && (!hop.Is6() || hop.Is4In6() || hop.Zone() != "" || hop.IsUnspecified() || hop.IsMulticast() || hop.IsLoopback() || hop.IsLinkLocalUnicast()):
		at.Key("next_hop").Errorf("%v is no global IPv6 address; give the own one on the link to the peer", hop)
	}
	switch {
	case p.Password != "" && p.PasswordFile != "":
		at.Key("password_file").Errorf("the password is given beside it; keep one of the two")
	case at.Has("password") && p.Password == "", len(p.Password) > maxPassword:
		at.Key("password").Errorf("it has %d characters; use 1 to %d", len(p.Password), maxPassword)
	}
	if p.Multihop != 0 && (p.Multihop < 2 || p.Multihop > maxTTL) {
		at.Key("multihop").Errorf("%d is out of range; use 2 to %d, or leave it out for a peer on a link of the node", p.Multihop, maxTTL)
	}
	validatePrepend(at.Key("prepend"), p.Prepend)
	c.validatePass(at.Key("pass"), p.Pass)
}
