package gss

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/miekg/dns"

	"anycastle/internal/config"
)

// Timers of the SOA record. Nothing transfers the zone in this version; they are those of RFC 1912 section 2.2.
const (
	soaRefresh = 3600
	soaRetry   = 600
	soaExpire  = 14 * 86400
)

// maxChain bounds how many CNAME records one query follows. Loops are refused with the config.
const maxChain = 8

// zone is the compiled zone. It is never changed once the server runs, so any number of queries may read it.
type zone struct {
	origin string // canonical
	ttl    uint32 // seconds
	soa    *dns.SOA
	nodes  map[string]*node // by canonical name; also every name between a record and the origin (RFC 4592 section 2.2.2)

	pointers []pointer // until checkReferences has seen them
}

// pointer is a record that names another, and its place in the node file.
type pointer struct {
	owner string
	rr    dns.RR
	at    config.Cursor
}

// node is a name that exists.
type node struct {
	records map[uint16][]dns.RR
	group   string // answers A queries for the name when not ""
}

// newZone makes the zone with its SOA record and nothing else; nil when not even its name is right.
func newZone(c *Zone, at config.Cursor) *zone {
	origin, err := hostname(c.Name)
	if err != nil {
		at.Key("name").Errorf("%v", err)
		return nil
	}
	if c.TTL < time.Second || c.TTL > maxTTL || c.TTL%time.Second != 0 {
		at.Key("ttl").Errorf("%v is not from 1s to %v in whole seconds; 5s suits most", c.TTL, maxTTL)
	}
	primary, err := hostname(c.Primary)
	if err != nil {
		at.Key("primary").Errorf("%v", err)
	}
	if strings.Contains(c.Contact, "@") {
		at.Key("contact").Errorf("%q has an @; a contact is written as a name, such as %s", c.Contact, strings.Replace(c.Contact, "@", ".", 1))
	}
	contact, err := canonical(c.Contact)
	if err != nil {
		at.Key("contact").Errorf("%v", err)
	}
	z := &zone{origin: origin, ttl: uint32(c.TTL / time.Second), nodes: map[string]*node{}}
	z.soa = &dns.SOA{
		Hdr: z.header(origin, dns.TypeSOA), Ns: primary, Mbox: contact, Serial: c.Serial,
		Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: z.ttl,
	}
	z.make(origin).records[dns.TypeSOA] = []dns.RR{z.soa}
	return z
}

func (z *zone) header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: z.ttl}
}

// contains says whether the canonical name is in the zone.
func (z *zone) contains(name string) bool { return dns.IsSubDomain(z.origin, name) }

// make gives the node of a canonical name in the zone, and makes it and every node above it when they are missing.
func (z *zone) make(name string) *node {
	if n, ok := z.nodes[name]; ok {
		return n
	}
	n := &node{records: map[uint16][]dns.RR{}}
	z.nodes[name] = n
	if name != z.origin {
		next, _ := dns.NextLabel(name, 0)
		z.make(name[next:])
	}
	return n
}

// addRule makes the canonical name answer from the group.
func (z *zone) addRule(name, group string, at config.Cursor) {
	if !z.contains(name) {
		at.Errorf("%s is outside the zone %s; a rule's name is inside it", bare(name), bare(z.origin))
		return
	}
	n := z.make(name)
	if n.group != "" {
		at.Errorf("%s has a rule already; keep one", bare(name))
		return
	}
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME} {
		if len(n.records[t]) > 0 {
			at.Errorf("%s has %s records too, which would lead clients past the rule; remove them or the rule", bare(name), dns.Type(t))
		}
	}
	n.group = group
}

// checkReferences reports names inside the zone that records point to and that lead nowhere.
func (z *zone) checkReferences(at config.Cursor) {
	apex := z.nodes[z.origin]
	if len(apex.records[dns.TypeNS]) == 0 {
		at.Key("records").Errorf("no NS record at the apex; add a line such as `@ NS %s.`", bare(z.soa.Ns))
	}
	if z.soa.Ns != "" && z.contains(z.soa.Ns) && !z.hasAddress(z.soa.Ns) {
		at.Key("primary").Errorf("%s has no address in records; add a line such as `%s. A 198.51.100.7`", bare(z.soa.Ns), bare(z.soa.Ns))
	}
	for _, p := range z.pointers {
		if err := z.checkTarget(p.owner, p.rr); err != nil {
			p.at.Errorf("%v", err)
		}
	}
	z.pointers = nil
}

// checkTarget checks the name that a record points to.
func (z *zone) checkTarget(owner string, rr dns.RR) error {
	var target string
	switch rr := rr.(type) {
	case *dns.NS:
		target = rr.Ns
	case *dns.MX:
		target = rr.Mx
	case *dns.SRV:
		target = rr.Target
	case *dns.CNAME:
		return z.checkChain(owner)
	default:
		return nil
	}
	target = dns.CanonicalName(target)
	if z.contains(target) && !z.hasAddress(target) {
		// RFC 2181 section 10.3: an alias will not do for NS and MX either
		return fmt.Errorf("the %s record of %s points to %s, which has no address; add its A record or a rule for it",
			dns.Type(rr.Header().Rrtype), bare(owner), bare(target))
	}
	return nil
}

// checkChain follows the CNAME of a name to its end.
func (z *zone) checkChain(name string) error {
	start := name
	for range maxChain {
		n := z.nodes[name]
		if n == nil {
			return fmt.Errorf("the CNAME of %s leads to %s, which is not in the zone's records; add it or mend the name", bare(start), bare(name))
		}
		alias := n.records[dns.TypeCNAME]
		if len(alias) == 0 {
			return nil
		}
		name = dns.CanonicalName(alias[0].(*dns.CNAME).Target)
		if !z.contains(name) {
			return nil
		}
	}
	return fmt.Errorf("the CNAME of %s leads through more than %d others or in a circle; point it to the name that it means", bare(start), maxChain-1)
}

func (z *zone) hasAddress(name string) bool {
	n := z.nodes[name]
	return n != nil && (n.group != "" || len(n.records[dns.TypeA]) > 0 || len(n.records[dns.TypeAAAA]) > 0)
}

// canonical gives a name in lower case, with a dot at its end, and with no more escapes than it needs, so that two
// spellings of one name are one map key.
func canonical(name string) (string, error) {
	if name == "" {
		return "", errors.New("missing; give a domain name")
	}
	wire := make([]byte, 256)
	end, err := dns.PackDomainName(dns.Fqdn(name), wire, 0, nil, false)
	if err != nil || end < 2 {
		return "", fmt.Errorf("%q is no domain name; labels have up to 63 characters and names up to 253", name)
	}
	name, _, err = dns.UnpackDomainName(wire[:end], 0)
	if err != nil {
		return "", fmt.Errorf("%q is no domain name: %w", name, err)
	}
	return dns.CanonicalName(name), nil
}

var hostLabels = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.)+$`)

// hostname is canonical for names that a client may connect to: letters, digits, dashes and underscores only.
func hostname(name string) (string, error) {
	canon, err := canonical(name)
	if err == nil && !hostLabels.MatchString(canon) {
		return "", fmt.Errorf("%q is no host name; use letters, digits and dashes, and xn-- forms for other letters", name)
	}
	return canon, err
}

// bare is a canonical name as people write it.
func bare(name string) string { return strings.TrimSuffix(name, ".") }
