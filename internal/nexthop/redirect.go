package nexthop

import (
	"encoding/binary"
	"errors"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// errNoRedirect is about frames that the kernel would drop after our program has counted them as sent, without a sign.
var errNoRedirect = errors.New("it takes no frames from XDP; " +
	"for a veth switch GRO on at its far end while that is up, for another link use one whose driver can, or all uplinks in generic mode")

// redirectsTo says whether packets leave by the link by redirect, from an uplink whose driver runs the program. In
// generic mode every link takes them.
func (k *kernel) redirectsTo(link netlink.Link) bool {
	for _, u := range k.uplinks {
		if u.Native && (u.Name != link.Attrs().Name || link.Type() == "veth") {
			return true
		}
	}
	return false
}

// The kernel's netdev family of generic netlink, which it has since 6.3.
const (
	netdevCmdDevGet   = 1
	netdevAttrIfindex = 1
	netdevAttrXDP     = 3
	xdpNdoXmit        = 1 << 2 // frames can be redirected to it: what the kernel itself checks
)

// takesRedirects asks the kernel whether frames can be redirected to the link. It takes a kernel that does not tell for
// one that can.
func takesRedirects(ifindex int) bool {
	family, err := netlink.GenlFamilyGet("netdev")
	if err != nil {
		return true
	}
	req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_REQUEST)
	// nl.Genlmsg leaves the two reserved bytes of the header to chance, and the family refuses them unless 0
	header := []byte{netdevCmdDevGet, 1, 0, 0}
	req.AddRawData(append(header, nl.NewRtAttr(netdevAttrIfindex, nl.Uint32Attr(uint32(ifindex))).Serialize()...))
	replies, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil || len(replies) == 0 || len(replies[0]) < nl.SizeofGenlmsg {
		return true
	}
	attrs, err := nl.ParseRouteAttr(replies[0][nl.SizeofGenlmsg:])
	if err != nil {
		return true
	}
	for _, a := range attrs {
		if a.Attr.Type == netdevAttrXDP && len(a.Value) == 8 {
			return binary.NativeEndian.Uint64(a.Value)&xdpNdoXmit != 0
		}
	}
	return true
}
