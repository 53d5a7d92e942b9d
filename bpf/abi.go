package bpf

import (
	"encoding/binary"
	"net/netip"
)

// Where pins are unless a process is told otherwise.
const (
	DefaultLBDir   = FSPath + "/anycastle/lb"
	DefaultRealDir = FSPath + "/anycastle/real"
)

// FSPath is where the bpf file system is by custom.
const FSPath = "/sys/fs/bpf"

// Sizes of the maps, as in headers/abi.h.
const (
	MaxVIPs       = 4096
	MaxFarms      = 1024
	MaxReals      = 4096 // one less is usable: index 0 is no real
	MaxRanges     = 32   // VIPs of many ports on one address
	Slots         = 65536
	SlotsPerBlock = 16
	MaxCapLen     = 2048 // of a captured frame
)

// Flags of a VIP.
const (
	VIPHashSource   = 1 // the slot depends on the source under the mask alone
	VIPSecondChance = 2 // how established flows are treated in slots in transition; else they are tracked
	VIPFollowAll    = 4 // flows are tracked in every slot
)

// AddressInService in Address.Flags: echo requests are answered.
const AddressInService = 1

// Flags of a real.
const (
	RealRedirect = 1 // packets leave by redirect through the interface they came in by, too: a veth needs it
	RealIPv6     = 2 // the outer header is IPv6
)

// Kinds of forwarding.
const (
	KindIPIP = 0
	KindGUE  = 1
	KindL2   = 2
)

// The structs of headers/abi.h. Addresses and ports in them are in network order; see Addr and Port.
type (
	VIPKey4       = lbVipKey4
	VIPKey6       = lbVipKey6
	VIP           = lbVip
	Address       = lbAddress
	Slot          = lbSlot
	Block         = lbBlock
	Real          = lbReal
	Count         = lbCount
	Flow          = lbFlow
	FragmentKey   = lbFragmentKey
	Fragment      = lbFragment
	Trace         = lbTrace
	CaptureFilter = lbCaptureFilter
)

// Addr gives an address as the programs hold it, IPv4 in the first word.
func Addr(a netip.Addr) [4]uint32 {
	var words [4]uint32
	if a.Is4() {
		b := a.As4()
		words[0] = binary.NativeEndian.Uint32(b[:])
		return words
	}
	b := a.As16()
	for i := range words {
		words[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return words
}

// Addr4 gives an IPv4 address as the programs hold it. It panics for any other address.
func Addr4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

// NetAddr undoes Addr.
func NetAddr(words [4]uint32, ipv6 bool) netip.Addr {
	var b []byte
	for _, w := range words {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	if !ipv6 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16([16]byte(b))
}

// AddressKey gives the key of the map of addresses: an IPv6 address, or an IPv4 address mapped into one.
func AddressKey(a netip.Addr) [16]byte { return a.As16() }

// Port gives a port as the programs hold it, and undoes that too.
func Port(p uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, p))
}

// OuterSum gives Real.Sum: the sum of those words of an outer IPv4 header that are the same for every packet.
func OuterSum(source, addr netip.Addr) uint16 {
	if !source.Is4() || !addr.Is4() {
		return 0
	}
	header := [20]byte{0: 0x45, 6: 0x40} // version and length; do not fragment
	copy(header[12:], source.AsSlice())
	copy(header[16:], addr.AsSlice())
	sum := uint32(0)
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.NativeEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// reasonNames are what users see, in the order of enum reason in headers/reason.h.
var reasonNames = [lbReasonREASON_MAX]string{
	lbReasonREASON_NONE:           "none",
	lbReasonREASON_TRUNCATED:      "truncated",
	lbReasonREASON_BAD_HEADER:     "bad_header",
	lbReasonREASON_EXT_HEADER:     "ext_header",
	lbReasonREASON_FRAGMENT:       "fragment",
	lbReasonREASON_FRAGMENT_EARLY: "fragment_early",
	lbReasonREASON_TTL_EXPIRED:    "ttl_expired",
	lbReasonREASON_NO_TABLE:       "no_table",
	lbReasonREASON_NO_REAL:        "no_real",
	lbReasonREASON_NO_NEXT_HOP:    "no_next_hop",
	lbReasonREASON_TOO_BIG:        "too_big",
	lbReasonREASON_ICMP_LIMITED:   "icmp_limited",
	lbReasonREASON_ICMP_UNHANDLED: "icmp_unhandled",
	lbReasonREASON_OUT_OF_SERVICE: "out_of_service",
	lbReasonREASON_NO_HEADROOM:    "no_headroom",
	lbReasonREASON_NOT_OWN:        "not_own",
	lbReasonREASON_NOT_VIP:        "not_vip",
	lbReasonREASON_BAD_INNER:      "bad_inner",
	lbReasonREASON_ECN:            "ecn",
	lbReasonREASON_NO_ROUTE:       "no_route",
}

// ReasonName gives the name that users see; empty if there is no such reason.
func ReasonName(reason uint32) string {
	if int(reason) >= len(reasonNames) {
		return ""
	}
	return reasonNames[reason]
}

// Reasons gives the number of each reason by its name, without that of no drop.
func Reasons() map[string]uint32 {
	reasons := map[string]uint32{}
	for i, name := range reasonNames {
		if lbReason(i) != lbReasonREASON_NONE {
			reasons[name] = uint32(i)
		}
	}
	return reasons
}

// AnyReason in CaptureFilter.Reason selects every dropped packet.
const AnyReason = uint32(lbReasonREASON_MAX)
