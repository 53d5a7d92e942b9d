package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/miekg/dns"
)

// resolver asks a name's servers as a resolver without a cache would: the one that answered last comes first.
type resolver struct {
	servers []string
	mu      sync.Mutex
	good    int // the server that answered last
}

func (r *resolver) lookup(ctx context.Context, name string) (netip.Addr, error) {
	r.mu.Lock()
	first := r.good
	r.mu.Unlock()
	var errs []error
	for i := range r.servers {
		n := (first + i) % len(r.servers)
		addr, err := ask(ctx, r.servers[n], name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.mu.Lock()
		r.good = n
		r.mu.Unlock()
		return addr, nil
	}
	return netip.Addr{}, errors.Join(errs...)
}

func ask(ctx context.Context, server, name string) (netip.Addr, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	ctx, cancel := context.WithTimeout(ctx, dnsTime)
	defer cancel()
	a, _, err := (&dns.Client{Timeout: dnsTime}).ExchangeContext(ctx, q, server)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask %s: %w", server, err)
	}
	if a.Rcode != dns.RcodeSuccess {
		return netip.Addr{}, fmt.Errorf("%s answered %s", server, dns.RcodeToString[a.Rcode])
	}
	for _, rr := range a.Answer {
		if rec, ok := rr.(*dns.A); ok {
			if addr, ok := netip.AddrFromSlice(rec.A.To4()); ok {
				return addr, nil
			}
		}
	}
	return netip.Addr{}, fmt.Errorf("%s answered without an address", server)
}
