// Package resolver asks a chosen DNS server.
//
// What depends on the answers of DNS, such as block lists, should ask a resolver of one's own: lists answer the big public
// ones with errors. Nothing has to be closed.
package resolver

import (
	"context"
	"net"
	"net/netip"
)

// At gives a resolver that asks the server at an address, over UDP and TCP; the machine's own when the address is zero.
func At(server netip.AddrPort) *net.Resolver {
	if !server.IsValid() {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.String())
	}}
}
