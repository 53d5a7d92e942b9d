package rhi

import (
	"net/netip"
	"testing"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// What peers give as a next hop, over which kind of session, and what a route can go by.
func TestNextHop(t *testing.T) {
	t.Parallel()
	const global, local, linkLocal = "2001:db8:1::2", "fe80::9", "fe80::2%eth1"
	nlri, err := bgp.NewIPAddrPrefix(netip.MustParsePrefix(vip6))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, session, hop, want string }{
		{"global over global", global, "2001:db8:1::3", "2001:db8:1::3"},
		{"IPv4 in IPv6 form", "192.0.2.3", "::ffff:192.0.2.3", ""},
		{"none over global", global, "::", ""},
		{"link-local over global", global, local, ""}, // on which link?
		{"link-local over link-local", linkLocal, local, "fe80::9%eth1"},
		{"global over link-local", linkLocal, "2001:db8:1::3", linkLocal},
		{"none over link-local", linkLocal, "::", linkLocal},
	} {
		reach, err := bgp.NewPathAttributeMpReachNLRI(bgp.RF_IPv6_UC, []bgp.PathNLRI{{NLRI: nlri}}, netip.MustParseAddr(c.hop))
		if err != nil {
			t.Fatal(err)
		}
		hop, ok := nextHop(&apiutil.Path{PeerAddress: netip.MustParseAddr(c.session), Attrs: []bgp.PathAttributeInterface{reach}})
		if got := hop.String(); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s: %s, %v; want %q", c.name, got, ok, c.want)
		}
	}
}
