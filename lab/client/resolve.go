package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// dnsTime bounds one question to a site selector.
const dnsTime = 300 * time.Millisecond

// resolver looks names up as a host does that has a recursive resolver. It keeps nothing but who answered last: how long an
// answer is good for is the recursive resolver's to know.
type resolver struct {
	recursive servers
	selectors servers
}

func newResolver(t Targets) *resolver {
	return &resolver{
		recursive: servers{addrs: t.Resolvers, within: attemptTime / time.Duration(max(1, len(t.Resolvers)))},
		selectors: servers{addrs: t.Selectors, within: dnsTime},
	}
}

func (r *resolver) nobody() bool { return len(r.recursive.addrs)+len(r.selectors.addrs) == 0 }

// lookup asks the recursive resolvers. Only while none of them has ever answered, so that there may be none in this lab, are the
// selectors asked in their place: later that would hide an outage.
func (r *resolver) lookup(ctx context.Context, name string) (addr netip.Addr, way string, err error) {
	if len(r.recursive.addrs) > 0 {
		addr, err = r.recursive.lookup(ctx, name)
		if err == nil || r.recursive.seen() || len(r.selectors.addrs) == 0 {
			return addr, WayResolver, err
		}
	}
	addr, direct := r.selectors.lookup(ctx, name)
	if direct != nil {
		return addr, WaySelector, errors.Join(err, direct)
	}
	return addr, WaySelector, nil
}

// servers are asked one after the other: the one that answered last comes first.
type servers struct {
	addrs  []netip.AddrPort
	within time.Duration // for one of them; all have attemptTime

	mu       sync.Mutex
	good     int  // the server that answered last
	answered bool // one of them has
}

func (s *servers) seen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

func (s *servers) lookup(ctx context.Context, name string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	s.mu.Lock()
	first := s.good
	s.mu.Unlock()
	var errs []error
	for i := range s.addrs {
		n := (first + i) % len(s.addrs)
		addr, err := ask(ctx, s.addrs[n], name, s.within)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.mu.Lock()
		s.good, s.answered = n, true
		s.mu.Unlock()
		return addr, nil
	}
	return netip.Addr{}, errors.Join(errs...)
}

func ask(ctx context.Context, server netip.AddrPort, name string, within time.Duration) (netip.Addr, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	a, _, err := (&dns.Client{Timeout: within}).ExchangeContext(ctx, q, server.String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask %s: %w", server, err)
	}
	if a.Rcode != dns.RcodeSuccess {
		return netip.Addr{}, &failure{ReasonDNS, fmt.Sprintf("%s answered %s", server, dns.RcodeToString[a.Rcode])}
	}
	for _, rr := range a.Answer {
		if rec, ok := rr.(*dns.A); ok {
			if addr, ok := netip.AddrFromSlice(rec.A.To4()); ok {
				return addr, nil
			}
		}
	}
	return netip.Addr{}, &failure{ReasonDNS, fmt.Sprintf("%s answered without an address", server)}
}
