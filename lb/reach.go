package lb

import (
	"fmt"

	"anycastle/internal/nexthop"
)

// unfit says why packets cannot get to a real by its way of forwarding, though its next hop is resolved; empty: they can.
func unfit(forward Forward, hop nexthop.Hop) string {
	if forward == ForwardL2 && hop.Gateway.IsValid() {
		// the gateway would route the packet by its destination, the VIP: back to us
		return fmt.Sprintf("l2 needs the real on the uplink's own network, it is behind %v", hop.Gateway)
	}
	return ""
}
