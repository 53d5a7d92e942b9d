package queue

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"anycastle/mailroles/mtasts"
	"anycastle/mailroles/queue/mx"
	"anycastle/mailroles/queue/remote"
)

const (
	// maxHosts is the most mail exchangers of a domain whose addresses are asked for.
	maxHosts = 10
	// maxAddrs is the most addresses of one host that are tried.
	maxAddrs = 4
)

// result is what an attempt came to for one recipient.
type result struct {
	state  State // Waiting: it is to be tried again
	reply  remote.Reply
	host   string // that said so; empty for ourselves
	tls    string
	reason string // word for the metrics: why not
	down   bool   // the destination cannot be reached at all
}

func later(reason, status, format string, args ...any) *result {
	return &result{state: Waiting, reason: reason, reply: ours(451, status, format, args...)}
}

func never(code int, reason, status, format string, args ...any) *result {
	return &result{state: Failed, reason: reason, reply: ours(code, status, format, args...)}
}

// ours is a reply that no host gave.
func ours(code int, status, format string, args ...any) remote.Reply {
	return remote.Reply{Code: code, Status: status, Text: printable(fmt.Sprintf(format, args...)), Local: true}
}

// none says whether an error of the resolver means that there is nothing, and not that nobody can tell.
func none(err error) bool { return errors.Is(err, mx.ErrNone) || errors.Is(err, mx.ErrNoDomain) }

// route finds the hosts of a destination in the order in which they are tried, or says why there are none.
func (q *Queue) route(ctx context.Context, destination string) ([]remote.Host, *result) {
	if q.opt.Config.Smarthost != nil {
		return q.smarthost(ctx)
	}
	own, err := q.opt.Own()
	if err != nil {
		return nil, later("dns", "4.3.0", "%v", err)
	}
	if addr, ok := literal(destination); ok {
		if slices.Contains(own, addr) {
			return nil, never(554, "loop", "5.4.6", "%s is this server, which does not know the mailbox", destination)
		}
		return []remote.Host{{Name: addr.String(), Addr: netip.AddrPortFrom(addr, q.opt.Port)}}, nil
	}
	exchangers, err := q.opt.Resolver.Hosts(ctx, destination)
	switch {
	case errors.Is(err, mx.ErrNull):
		return nil, never(556, "null-mx", "5.1.10", "%s takes no mail (null MX)", destination)
	case errors.Is(err, mx.ErrNoDomain):
		return nil, never(550, "no-domain", "5.1.2", "There is no domain %s", destination)
	case err != nil:
		return nil, later("dns", "4.4.3", "%v", err)
	}
	hosts, fail := q.resolve(ctx, destination, exchangers, own)
	if fail != nil {
		return nil, fail
	}
	return q.underPolicy(ctx, destination, hosts)
}

// smarthost is the route of all mail, where there is one.
func (q *Queue) smarthost(ctx context.Context) ([]remote.Host, *result) {
	s := q.opt.Config.Smarthost
	name, port, err := s.split()
	host := remote.Host{Name: name, Verify: true, Implicit: port == 465, User: s.User}
	if err == nil {
		host.Password, err = s.password()
	}
	if err == nil {
		host.Roots, err = s.roots()
	}
	var addrs []netip.Addr
	if addr, notAddr := netip.ParseAddr(name); err == nil && notAddr == nil {
		addrs = []netip.Addr{addr}
	} else if err == nil {
		addrs, err = q.opt.Resolver.Addrs(ctx, name)
	}
	if err != nil {
		return nil, later("smarthost", "4.4.3", "Smarthost: %v", err)
	}
	var hosts []remote.Host
	for _, a := range addrs[:min(len(addrs), maxAddrs)] {
		host.Addr = netip.AddrPortFrom(a, port)
		hosts = append(hosts, host)
	}
	return hosts, nil
}

// exchanger is a mail exchanger with its addresses.
type exchanger struct {
	mx.Host
	addrs []netip.Addr
	own   bool
}

// resolve finds the addresses of mail exchangers. Where we are one of them ourselves, only those before us are of use (RFC 5321
// section 5.1).
func (q *Queue) resolve(ctx context.Context, destination string, list []mx.Host, own []netip.Addr) ([]remote.Host, *result) {
	var known []exchanger
	var cannotTell error
	bound := -1 // our own preference
	for _, h := range list[:min(len(list), maxHosts)] {
		x := exchanger{Host: h, own: strings.EqualFold(h.Name, q.opt.Hostname)}
		var err error
		if x.addrs, err = q.opt.Resolver.Addrs(ctx, h.Name); err != nil && !none(err) {
			cannotTell = err
		}
		x.own = x.own || slices.ContainsFunc(x.addrs, func(a netip.Addr) bool { return slices.Contains(own, a) })
		if x.own && (bound < 0 || int(h.Preference) < bound) {
			bound = int(h.Preference)
		}
		known = append(known, x)
	}
	var hosts []remote.Host
	for _, x := range known {
		if bound >= 0 && int(x.Preference) >= bound {
			continue
		}
		for _, a := range x.addrs[:min(len(x.addrs), maxAddrs)] {
			hosts = append(hosts, remote.Host{Name: x.Name, Addr: netip.AddrPortFrom(a, q.opt.Port)})
		}
	}
	switch {
	case len(hosts) > 0:
		return hosts, nil
	case cannotTell != nil:
		return nil, later("dns", "4.4.3", "%v", cannotTell)
	case bound >= 0:
		return nil, never(554, "loop", "5.4.6", "Mail for %s comes back to this server", destination)
	}
	return nil, never(550, "no-domain", "5.4.4", "No mail server of %s has an address", destination)
}

// underPolicy leaves out hosts that the domain's MTA-STS policy does not name, and has TLS verified at the others.
func (q *Queue) underPolicy(ctx context.Context, destination string, hosts []remote.Host) ([]remote.Host, *result) {
	policy, ok := q.opt.Policies.Policy(ctx, destination)
	if !ok || policy.Mode != mtasts.Enforce {
		return hosts, nil
	}
	var fit []remote.Host
	for _, h := range hosts {
		if policy.Matches(h.Name) {
			h.Verify, h.Roots = true, q.opt.Roots
			fit = append(fit, h)
		}
	}
	if len(fit) == 0 {
		return nil, later("mta-sts", "4.7.5", "No mail server of %s is named in its MTA-STS policy", destination)
	}
	return fit, nil
}
