package mx

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Answers that callers tell apart. Any other error means that nobody can tell now.
var (
	ErrNoDomain = errors.New("mx: no such domain")
	ErrNone     = errors.New("mx: the name has no such records")
	ErrNull     = errors.New("mx: the domain takes no mail (RFC 7505)")
)

const (
	// queryTime bounds one question to one resolver.
	queryTime = 5 * time.Second
	// rounds is how often all resolvers are asked.
	rounds = 2
	// maxChain is the most CNAMEs that are followed.
	maxChain = 8
	// udpSize is what a reply by UDP may have.
	udpSize = 1232
	// maxRecords is the most records of one answer that are used.
	maxRecords = 64
)

// Resolver asks recursive resolvers, one after the other until one can tell. It is safe for concurrent use.
type Resolver struct {
	Servers []netip.AddrPort
}

// Host is one mail exchanger of a domain.
type Host struct {
	Name       string // without the dot at the end, in lower case
	Preference uint16 // the lowest is tried first
}

// FromFile reads the resolvers of a file such as /etc/resolv.conf.
func FromFile(path string) (*Resolver, error) {
	conf, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("read resolvers: %w", err)
	}
	r := &Resolver{}
	for _, s := range conf.Servers {
		if addr, err := netip.ParseAddr(s); err == nil {
			r.Servers = append(r.Servers, netip.AddrPortFrom(addr, 53))
		}
	}
	if len(r.Servers) == 0 {
		return nil, fmt.Errorf("read resolvers: %s names none", path)
	}
	return r, nil
}

// Hosts gives the mail exchangers of a domain in the order in which they are tried: by preference, and shuffled among equals
// (RFC 5321 section 5.1). A domain without MX records is its own. The error is ErrNull for a domain that takes no mail, and
// ErrNoDomain for one that does not exist.
func (r *Resolver) Hosts(ctx context.Context, domain string) ([]Host, error) {
	records, err := r.lookup(ctx, domain, dns.TypeMX)
	if errors.Is(err, ErrNone) {
		return []Host{{Name: domain}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up MX of %s: %w", domain, err)
	}
	var hosts []Host
	null := false
	for _, rr := range records {
		if m, ok := rr.(*dns.MX); ok && m.Mx == "." {
			null = true
		} else if ok {
			hosts = append(hosts, Host{Name: plain(m.Mx), Preference: m.Preference})
		}
	}
	if len(hosts) == 0 && null {
		return nil, fmt.Errorf("look up MX of %s: %w", domain, ErrNull)
	}
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	slices.SortStableFunc(hosts, func(a, b Host) int { return int(a.Preference) - int(b.Preference) })
	return hosts, nil
}

// Addrs gives the addresses of a host: one of IPv6 first, and then by turns, so that who tries a few tries both kinds. The error
// is ErrNoDomain or ErrNone when it has none.
func (r *Resolver) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	six, err6 := r.lookup(ctx, host, dns.TypeAAAA)
	four, err4 := r.lookup(ctx, host, dns.TypeA)
	var addrs []netip.Addr
	for i := range max(len(six), len(four)) {
		for _, kind := range [][]dns.RR{six, four} {
			if i < len(kind) {
				addrs = addAddr(addrs, kind[i])
			}
		}
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	for _, err := range []error{err6, err4} { // one that cannot tell counts more than one that has none
		if !errors.Is(err, ErrNone) && !errors.Is(err, ErrNoDomain) {
			return nil, fmt.Errorf("look up addresses of %s: %w", host, err)
		}
	}
	return nil, fmt.Errorf("look up addresses of %s: %w", host, err4)
}

func addAddr(addrs []netip.Addr, rr dns.RR) []netip.Addr {
	var ip net.IP
	switch rr := rr.(type) {
	case *dns.AAAA:
		ip = rr.AAAA
	case *dns.A:
		ip = rr.A
	}
	if a, ok := netip.AddrFromSlice(ip); ok {
		addrs = append(addrs, a.Unmap())
	}
	return addrs
}

// TXT gives the texts of a name, each in one piece. The error is ErrNoDomain or ErrNone when it has none.
func (r *Resolver) TXT(ctx context.Context, name string) ([]string, error) {
	records, err := r.lookup(ctx, name, dns.TypeTXT)
	if err != nil {
		return nil, fmt.Errorf("look up TXT of %s: %w", name, err)
	}
	var texts []string
	for _, rr := range records {
		if t, ok := rr.(*dns.TXT); ok {
			texts = append(texts, strings.Join(t.Txt, ""))
		}
	}
	return texts, nil
}

// lookup gives the records of a type, following aliases.
func (r *Resolver) lookup(ctx context.Context, name string, qtype uint16) ([]dns.RR, error) {
	at := dns.CanonicalName(name)
	seen := map[string]bool{}
	for len(seen) <= maxChain {
		reply, err := r.ask(ctx, at, qtype)
		if err != nil {
			return nil, err
		}
		for alias := ""; ; at = alias { // along the chain that the reply has
			if seen[at] {
				return nil, fmt.Errorf("the aliases of %s go round in a loop", name)
			}
			seen[at] = true
			if found := owned(reply, at, qtype); len(found) > 0 {
				return found, nil
			}
			if alias = aliasOf(reply, at); alias == "" {
				break
			}
		}
		if reply.Rcode == dns.RcodeNameError {
			return nil, ErrNoDomain
		}
		if at == dns.CanonicalName(reply.Question[0].Name) {
			return nil, ErrNone
		}
		delete(seen, at) // it is asked for in its own right
	}
	return nil, fmt.Errorf("%s has more than %d aliases", name, maxChain)
}

// owned gives the records of a name and type, at most maxRecords.
func owned(reply *dns.Msg, name string, qtype uint16) []dns.RR {
	var found []dns.RR
	for _, rr := range reply.Answer {
		if h := rr.Header(); h.Rrtype == qtype && dns.CanonicalName(h.Name) == name && len(found) < maxRecords {
			found = append(found, rr)
		}
	}
	return found
}

func aliasOf(reply *dns.Msg, name string) string {
	for _, rr := range reply.Answer {
		if c, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(c.Hdr.Name) == name {
			return dns.CanonicalName(c.Target)
		}
	}
	return ""
}

// ask gives the first reply that says something: that there are records, that there are none, or that there is no such name.
func (r *Resolver) ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	if _, ok := dns.IsDomainName(name); !ok {
		return nil, ErrNoDomain
	}
	q := new(dns.Msg).SetQuestion(name, qtype)
	q.SetEdns0(udpSize, false)
	last := errors.New("there is no resolver")
	for range rounds {
		for _, server := range r.Servers {
			reply, err := askOne(ctx, server, q)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err == nil && (reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError) {
				return reply, nil
			}
			if err == nil {
				err = fmt.Errorf("it answers %s", dns.RcodeToString[reply.Rcode])
			}
			last = fmt.Errorf("ask resolver %s: %w", server, err)
		}
	}
	return nil, last
}

func askOne(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	for _, network := range []string{"udp", "tcp"} {
		ctx, cancel := context.WithTimeout(ctx, queryTime)
		q := q.Copy()
		q.Id = dns.Id()
		c := dns.Client{Net: network, Timeout: queryTime, UDPSize: udpSize}
		reply, _, err := c.ExchangeContext(ctx, q, server.String())
		cancel()
		if err != nil {
			return nil, err
		}
		if len(reply.Question) != 1 || reply.Question[0].Qtype != q.Question[0].Qtype ||
			dns.CanonicalName(reply.Question[0].Name) != dns.CanonicalName(q.Question[0].Name) {
			return nil, errors.New("it answers another question")
		}
		if !reply.Truncated {
			return reply, nil
		}
	}
	return nil, errors.New("it cuts its reply by TCP too")
}

// plain gives a name as it is compared and shown.
func plain(name string) string { return strings.TrimSuffix(dns.CanonicalName(name), ".") }
