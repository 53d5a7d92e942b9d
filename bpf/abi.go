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
	MaxVIPs  = 4096
	MaxFarms = 1024
	MaxReals = 4096 // one less is usable: index 0 is no real
	Slots    = 65536
)

// RealRedirect in Real.Flags has packets leave by redirect through the interface they came in by, too: a veth needs it.
const RealRedirect = 1

// The structs of headers/abi.h. Addresses and ports in them are in network order; see Addr and Port.
type (
	VIPKey = lbVipKey
	VIP    = lbVip
	Slot   = lbSlot
	Real   = lbReal
	Count  = lbCount
)

// Addr gives an IPv4 address as the programs hold it. It panics for any other address.
func Addr(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

// NetAddr undoes Addr.
func NetAddr(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.NativeEndian.AppendUint32(nil, a)))
}

// Port gives a port as the programs hold it, and undoes that too.
func Port(p uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, p))
}

// reasonNames are what users see, in the order of enum reason in headers/reason.h.
var reasonNames = [lbReasonREASON_MAX]string{
	lbReasonREASON_NONE:        "none",
	lbReasonREASON_TRUNCATED:   "truncated",
	lbReasonREASON_BAD_HEADER:  "bad_header",
	lbReasonREASON_FRAGMENT:    "fragment",
	lbReasonREASON_TTL_EXPIRED: "ttl_expired",
	lbReasonREASON_NO_TABLE:    "no_table",
	lbReasonREASON_NO_REAL:     "no_real",
	lbReasonREASON_NO_NEXT_HOP: "no_next_hop",
	lbReasonREASON_TOO_BIG:     "too_big",
	lbReasonREASON_NO_HEADROOM: "no_headroom",
	lbReasonREASON_NOT_OWN:     "not_own",
	lbReasonREASON_NOT_VIP:     "not_vip",
	lbReasonREASON_BAD_INNER:   "bad_inner",
}
