package nexthop

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Tag is an 802.1Q or 802.1ad tag.
type Tag struct {
	Proto uint16 // ethertype: 0x8100 or 0x88a8
	TCI   uint16 // VLAN in the lower 12 bits
}

// Hop is the way to an address: all that a frame towards it needs. The zero Hop is an unresolved one.
type Hop struct {
	Source  netip.Addr // our address on that way
	Ifindex int        // of the link that takes frames, below any VLAN
	MTU     int        // of a packet
	DstMAC  [6]byte
	SrcMAC  [6]byte
	Tags    [2]Tag // outermost first; the zero Tag is none
	Veth    bool   // XDP_TX does not wake its far end, so frames leave by redirect

	Gateway netip.Addr // that the address is behind; the zero Addr: it is on the link itself
	Why     string     // why it is not resolved
}

// Resolved says whether frames can be sent.
func (h Hop) Resolved() bool { return h.Ifindex != 0 }

// ToInstall leaves out what a data path has no place for.
func (h Hop) ToInstall() Hop {
	h.Why, h.Gateway = "", netip.Addr{}
	return h
}

// String is for people: status and logs.
func (h Hop) String() string {
	if !h.Resolved() {
		return strings.TrimSuffix("unresolved: "+h.Why, ": ")
	}
	var vlans strings.Builder
	for _, t := range h.Tags {
		if t != (Tag{}) {
			fmt.Fprintf(&vlans, " vlan %d", t.TCI&0xfff)
		}
	}
	behind := ""
	if h.Gateway.IsValid() {
		behind = fmt.Sprintf(" by gateway %v", h.Gateway)
	}
	return fmt.Sprintf("%s%s on interface %d%s, mtu %d", net.HardwareAddr(h.DstMAC[:]), behind, h.Ifindex, vlans.String(), h.MTU)
}
