package sign

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Exchange asks one DNS server, given as host:port, one question. Whether by UDP and then TCP is its business.
type Exchange func(ctx context.Context, q *dns.Msg, server string) (*dns.Msg, error)

// Parent asks the servers of a zone's parent for its DS set.
type Parent struct {
	Exchange Exchange // (required)
	Resolver string   // host:port of a resolver, by which the servers are found, if there are none in Servers
	Servers  []string // host:port of all servers of the parent
}

// maxServers bounds the addresses of servers that are asked; the root has 26.
const maxServers = 64

// ErrNoParent says that the servers of the parent could not be found.
var ErrNoParent = errors.New("no servers of the parent found")

// Observe asks all the servers at once. The Observation is Complete if all have answered with authority, each at one of its
// addresses; it is of no use, with an error, if none has. The keys are those that DS records are told by. The clock is asked
// when all have answered.
func (p *Parent) Observe(ctx context.Context, zone string, keys map[string]*Key, clock func() time.Time) (Observation, error) {
	zone = dns.CanonicalName(zone)
	addresses := make([]address, 0, maxServers)
	for _, s := range p.Servers {
		addresses = append(addresses, address{s, s})
	}
	if len(addresses) == 0 {
		var err error
		if addresses, err = p.find(ctx, zone); err != nil {
			return Observation{}, err
		}
	}
	type answer struct {
		set []string
		ttl time.Duration
		err error
	}
	answers := make([]answer, len(addresses))
	var wg sync.WaitGroup
	for i, at := range addresses {
		wg.Go(func() {
			a := &answers[i]
			a.set, a.ttl, a.err = p.ask(ctx, zone, at.hostPort, keys)
		})
	}
	wg.Wait()
	o := Observation{At: clock()}
	var errs []error
	answered := map[string]bool{}
	for i, a := range answers {
		name := addresses[i].server
		answered[name] = answered[name] || a.err == nil
		if a.err != nil {
			errs = append(errs, fmt.Errorf("ask %s for the DS set of %s: %w", addresses[i].hostPort, zone, a.err))
			continue
		}
		o.TTL = max(o.TTL, a.ttl)
		if !slices.ContainsFunc(o.Sets, func(s []string) bool { return same(s, a.set) }) {
			o.Sets = append(o.Sets, a.set)
		}
	}
	if len(o.Sets) == 0 {
		return o, errors.Join(errs...)
	}
	o.Complete = !slices.Contains(slices.Collect(maps.Values(answered)), false)
	return o, nil
}

// address is one of a server's, which is a name.
type address struct{ server, hostPort string }

func (p *Parent) ask(
	ctx context.Context, zone, server string, keys map[string]*Key,
) (set []string, ttl time.Duration, err error) {
	q := new(dns.Msg).SetQuestion(zone, dns.TypeDS)
	q.RecursionDesired = false
	q.SetEdns0(1232, true)
	m, err := p.Exchange(ctx, q, server)
	if err != nil {
		return nil, 0, err
	}
	if m.Rcode != dns.RcodeSuccess || !m.Authoritative {
		return nil, 0, fmt.Errorf("answered %s, authoritative %v", dns.RcodeToString[m.Rcode], m.Authoritative)
	}
	set = dsSet(zone, m.Answer, keys)
	for _, rr := range append(m.Answer, m.Ns...) {
		switch rr := rr.(type) {
		case *dns.DS:
			ttl = max(ttl, seconds(rr.Hdr.Ttl))
		case *dns.SOA: // there is none, for as long (RFC 2308 section 5)
			ttl = max(ttl, seconds(min(rr.Hdr.Ttl, rr.Minttl)))
		}
	}
	return set, ttl, nil
}

func seconds(ttl uint32) time.Duration { return time.Duration(ttl) * time.Second }

// dsSet names the keys that DS records point at. A record that no key of ours fits is named by its text.
func dsSet(zone string, rrs []dns.RR, keys map[string]*Key) []string {
	set := []string{}
	for _, rr := range rrs {
		ds, ok := rr.(*dns.DS)
		if !ok || dns.CanonicalName(ds.Hdr.Name) != zone {
			continue
		}
		name := fmt.Sprintf("DS %d %d %d %s", ds.KeyTag, ds.Algorithm, ds.DigestType, strings.ToLower(ds.Digest))
		for id, k := range keys {
			if k.tag == ds.KeyTag && k.Algorithm() == ds.Algorithm {
				if ours := k.record.ToDS(ds.DigestType); ours != nil && strings.EqualFold(ours.Digest, ds.Digest) {
					name = id
				}
			}
		}
		set = with(set, name)
	}
	return set
}

// find gives the addresses of all servers of the zone that holds the delegation.
func (p *Parent) find(ctx context.Context, zone string) (servers []address, err error) {
	for name := zone; name != "." && len(servers) == 0; {
		off, end := dns.NextLabel(name, 0)
		if name = name[off:]; end {
			name = "."
		}
		m, err := p.resolve(ctx, name, dns.TypeNS)
		if err != nil {
			return nil, err
		}
		for _, rr := range m.Answer {
			ns, ok := rr.(*dns.NS)
			if !ok || len(servers) >= maxServers {
				continue
			}
			for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
				addresses, err := p.resolve(ctx, ns.Ns, t)
				if err != nil {
					return nil, err
				}
				for _, rr := range addresses.Answer {
					switch rr := rr.(type) {
					case *dns.A:
						servers = append(servers, address{ns.Ns, net.JoinHostPort(rr.A.String(), "53")})
					case *dns.AAAA:
						servers = append(servers, address{ns.Ns, net.JoinHostPort(rr.AAAA.String(), "53")})
					}
				}
			}
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("%w: for %s, by %s", ErrNoParent, zone, p.Resolver)
	}
	return servers, nil
}

func (p *Parent) resolve(ctx context.Context, name string, rrtype uint16) (*dns.Msg, error) {
	m, err := p.Exchange(ctx, new(dns.Msg).SetQuestion(name, rrtype), p.Resolver)
	if err == nil && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		err = fmt.Errorf("answered %s", dns.RcodeToString[m.Rcode])
	}
	if err != nil {
		return nil, fmt.Errorf("find the parent: ask %s for %s %s: %w", p.Resolver, name, dns.Type(rrtype), err)
	}
	return m, nil
}
