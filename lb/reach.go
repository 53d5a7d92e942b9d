package lb

import (
	"fmt"
	"net/netip"

	"anycastle/internal/nexthop"
)

// minMTU6 is what every way of an IPv6 packet takes (RFC 8200, section 5). A sender that is told of less sends no smaller
// packets, so it can never be told that its packets do not fit.
const minMTU6 = 1280

// way is how packets of a farm's VIPs get to one of its reals.
type way struct {
	forward   Forward
	real      netip.Addr
	secondHop bool       // a packet may carry another real of the farm as well
	vip6      netip.Addr // an IPv6 VIP of the farm; the zero Addr: it has none
}

// unfit says why packets cannot get to a real, though its next hop is resolved; empty: they can.
func (w way) unfit(hop nexthop.Hop) string {
	if w.forward == ForwardL2 && hop.Gateway.IsValid() {
		// the gateway would route the packet by its destination, the VIP: back to us
		return fmt.Sprintf("l2 needs the real on the uplink's own network, it is behind %v", hop.Gateway)
	}
	if grows := w.overhead(); w.vip6.IsValid() && hop.Resolved() && hop.MTU-grows < minMTU6 {
		return fmt.Sprintf("mtu %d leaves %d bytes for IPv6 to %v, which needs %d; raise the mtu towards the real to %d",
			hop.MTU, hop.MTU-grows, w.vip6, minMTU6, minMTU6+grows)
	}
	return ""
}

// overhead is what the data path makes a packet grow by, at most.
func (w way) overhead() int {
	const ipv4, ipv6, udp, gue, secondHop = 20, 40, 8, 4, 4
	outer, address := ipv4, 4
	if w.real.Is6() {
		outer, address = ipv6, 16
	}
	switch {
	case w.forward == ForwardL2:
		return 0
	case w.forward == ForwardIPIP:
		return outer
	case w.secondHop:
		return outer + udp + gue + secondHop + address
	}
	return outer + udp + gue
}

// wayTo gives the way to a real of the farm, which may have left the config.
func (b *farmBuilder) wayTo(real netip.Addr, forward Forward) way {
	return way{forward: forward, real: real, secondHop: b.rules.secondChance, vip6: b.vip6}
}
