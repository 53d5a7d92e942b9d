// Package resolver asks a chosen DNS server.
//
// What depends on the answers of DNS, such as block lists, should ask a resolver of one's own: lists answer the big public
// ones with errors. Nothing has to be closed.
package resolver

import (
	"context"
	"net"
	"net/netip"
	"strings"
)

// Resolver asks for names as they are. The search list of /etc/resolv.conf would have a name that does not exist asked for once
// more below a domain of ours, and what is there said of a stranger. It is safe for concurrent use.
type Resolver struct{ net *net.Resolver }

// At gives a resolver that asks the server at an address, over UDP and TCP; the machine's own when the address is zero.
func At(server netip.AddrPort) Resolver {
	if !server.IsValid() {
		return Resolver{net.DefaultResolver}
	}
	return Resolver{&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.String())
	}}}
}

// rooted gives a name its dot at the end, so that nothing is put behind it.
func rooted(name string) string {
	if name == "" || strings.HasSuffix(name, ".") {
		return name
	}
	return name + "."
}

// LookupTXT is net.Resolver's, and so are the others.
func (r Resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return r.net.LookupTXT(ctx, rooted(name))
}

// LookupMX gives mail exchangers.
func (r Resolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return r.net.LookupMX(ctx, rooted(name))
}

// LookupIPAddr gives addresses.
func (r Resolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	return r.net.LookupIPAddr(ctx, rooted(host))
}

// LookupNetIP gives addresses of a network: ip, ip4 or ip6.
func (r Resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return r.net.LookupNetIP(ctx, network, rooted(host))
}

// LookupAddr gives the names of an address.
func (r Resolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return r.net.LookupAddr(ctx, addr)
}
