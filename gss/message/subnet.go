package message

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Address families of the client subnet option: RFC 7871 section 6. 0 is no family, and good only without an address.
const (
	familyNone = 0
	familyIPv4 = 1
	familyIPv6 = 2
)

// takeSubnet takes in the content of a client subnet option, and says whether it is well formed: RFC 7871 section 6 wants
// a scope of 0 in queries, as many bytes of address as the prefix needs, and no bits beyond the prefix.
func (q *Query) takeSubnet(body []byte) bool {
	if len(body) < 4 {
		return false
	}
	family, bits, scope, addr := binary.BigEndian.Uint16(body), int(body[2]), body[3], body[4:]
	var whole [16]byte
	copy(whole[:], addr)
	var ip netip.Addr
	switch family {
	case familyNone:
		q.subnetMax = 0
	case familyIPv4:
		ip, q.subnetMax = netip.AddrFrom4([4]byte(whole[:4])), 32
	case familyIPv6:
		ip, q.subnetMax = netip.AddrFrom16(whole), 128
	default:
		return false
	}
	if scope != 0 || bits > q.subnetMax || len(addr) != (bits+7)/8 {
		return false
	}
	if bits > 0 {
		prefix := netip.PrefixFrom(ip, bits)
		if prefix.Masked() != prefix {
			return false
		}
		q.Subnet = prefix
	}
	q.subnet = slices.Clone(body)
	return true
}

// subnetOption gives the content of the reply's option, nil for none. The reply has one whenever the query has, with a
// scope of 0 where the answer is the same for all, and for who opted out: RFC 7871 sections 7.1.2 and 7.2.1. The scope is
// that of Client.
func (q *Query) subnetOption(scope int) []byte {
	if q.subnet == nil {
		return nil
	}
	out := slices.Clone(q.subnet)
	out[3] = 0
	if q.Subnet.IsValid() && scope > 0 {
		out[3] = byte(min(scope+q.mapped(), q.subnetMax))
	}
	return out
}
