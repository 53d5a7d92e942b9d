package modeltest

import (
	"encoding/binary"
	"net/netip"

	"anycastle/internal/flowhash"
)

// Verdict is that of an XDP program.
type Verdict uint32

// The verdicts.
const (
	Drop     Verdict = 1
	Pass     Verdict = 2
	TX       Verdict = 3
	Redirect Verdict = 4
)

// Kind is how packets reach a real.
type Kind uint8

// The kinds.
const (
	IPIP Kind = iota
	GUE
	L2
)

// MaxReals is one more than the greatest index of a real.
const MaxReals = 4096

// Protocols and ethertypes.
const (
	protoICMP, protoTCP, protoUDP, protoICMP6 = 1, 6, 17, 58
	proto4in, proto6in                        = 4, 41
	etherIPv4, etherIPv6                      = 0x0800, 0x86dd
	guePort                                   = 6080
)

// VIPKey names a VIP of one port.
type VIPKey struct {
	Addr  netip.Addr
	Port  uint16
	Proto uint8
}

// VIP is what leads from a packet to a farm.
type VIP struct {
	Farm   uint32
	Index  uint32 // of the counter
	Source bool   // hash the source address alone
	Prefix int    // as much of it

	FollowAll    bool // flows are tracked in every slot
	SecondChance bool // how established flows are kept while the farm's table moves; else they are tracked
}

// Range is a VIP of several ports.
type Range struct {
	Lo, Hi uint16
	Proto  uint8
	VIP    VIP
}

// Address is what is known of an address of VIPs.
type Address struct {
	InService bool
	Ranges    []Range // the first that matches counts
}

// Slot is one slot of a table. 0 is no real.
type Slot struct{ Primary, Secondary uint16 }

// Table is the flowhash.Slots slots of a farm.
type Table []Slot

// Tag is an 802.1Q or 802.1ad tag.
type Tag struct{ Proto, TCI uint16 }

// Real is how one real is reached.
type Real struct {
	Addr, Source   netip.Addr // Addr not valid: no such real
	Ifindex, MTU   uint32
	DstMAC, SrcMAC [6]byte
	Kind           Kind
	Redirect       bool // never by TX
	Tags           []Tag
}

// Flow is a connection as the client sees it.
type Flow struct {
	Src, Dst netip.AddrPort
	Proto    uint8
}

// FragmentKey names the packet that a fragment is of.
type FragmentKey struct {
	Src, Dst netip.Addr
	ID       uint32
	Proto    uint8
}

// Choice is where a packet goes.
type Choice struct {
	Real, Second uint16 // Second 0: there is no second hop
	VIP          uint32 // index of the counter
	Hash         uint64
}

// Count is what was sent for a VIP.
type Count struct{ Packets, Bytes uint64 }

// LB is the state of a balancer: what the control plane wrote, and what the program keeps.
type LB struct {
	Key             flowhash.Key
	VIPs            map[VIPKey]VIP
	Addresses       map[[16]byte]Address // IPv4 as ::ffff:a.b.c.d
	Farms           map[uint32]Table
	Reals           map[uint16]Real
	ReplyByRedirect bool // the ingress does not transmit by TX

	Flows     map[Flow]uint16
	Fragments map[FragmentKey]Choice
	Counts    map[uint32]Count
	Drops     map[string]uint64
	Replies   uint64
}

// Result is what becomes of a frame.
type Result struct {
	Verdict Verdict
	Reason  string // of a drop
	Out     []byte // the frame as it goes on; nil if it is dropped
	To      uint32 // the interface that it leaves by, if it does
	Real    uint16 // that it was sent to, if it was
	Second  uint16 // and its second hop
	Held    bool   // kept for user space until its first fragment has come

	// TooBig says that Out answers with an error, for which the program may find no token: it then drops the frame with
	// the reason icmp_limited. Run counts it as answered; Limited undoes that.
	TooBig bool
}

// Limited has the last frame, which Run answered with TooBig, be dropped for want of a token.
func (m *LB) Limited() {
	m.Replies--
	m.Drops["icmp_limited"]++
}

// Run gives what becomes of a frame that came in by an interface.
func (m *LB) Run(frame []byte, ingress uint32) Result {
	r := m.run(frame, ingress)
	if r.Verdict == Drop {
		m.Drops[r.Reason]++
	}
	return r
}

func (m *LB) run(frame []byte, ingress uint32) Result {
	p, r := m.parse(frame)
	if r.Verdict != goOn {
		return r
	}
	p.ingress = ingress
	switch {
	case p.icmp() && p.fragment != nil:
		return m.refuse(p, "fragment")
	case p.icmp():
		return m.answerOrFollow(p)
	case p.fragment != nil && p.fragment.offset != 0:
		return m.laterFragment(p)
	}
	return m.segment(p)
}

// goOn is no verdict yet.
const goOn Verdict = 0

func drop(reason string) Result { return Result{Verdict: Drop, Reason: reason} }

func pass(p packet) Result { return Result{Verdict: Pass, Out: p.frame} }

// address gives what is known of an address. An IPv4 address within an IPv6 header is none of ours: it is not to be seen on
// a wire (RFC 4291, section 2.5.5.2, and RFC 6890).
func (m *LB) address(dst netip.Addr) (Address, bool) {
	if dst.Is4In6() {
		return Address{}, false
	}
	a, ours := m.Addresses[dst.As16()]
	return a, ours
}

// refuse drops what is meant for an address of ours, and leaves the rest to the kernel.
func (m *LB) refuse(p packet, reason string) Result {
	if _, ours := m.address(p.dst); ours {
		return drop(reason)
	}
	return pass(p)
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// update gives a checksum after a word under it changed (RFC 1624, equation 3).
func update(sum, before, after uint16) uint16 {
	return ^fold(uint32(^sum) + uint32(^before) + uint32(after))
}

// checksum gives that of RFC 1071 over all parts, of which only the last may have an odd length.
func checksum(parts ...[]byte) uint16 {
	sum := uint32(0)
	for _, b := range parts {
		for ; len(b) >= 2; b = b[2:] {
			sum += uint32(be16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	return ^fold(sum)
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
