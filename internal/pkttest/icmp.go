package pkttest

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// ICMP is an ICMP or ICMPv6 message, by the packet that it is in.
type ICMP struct {
	Type, Code uint8
	Rest       uint32 // of the header: identifier and sequence number, MTU, or pointer

	network gopacket.NetworkLayer
}

// Types of ICMP and ICMPv6.
const (
	EchoReply, EchoRequest      = 0, 8
	EchoRequest6, EchoReply6    = 128, 129
	Unreachable, Unreachable6   = 3, 1
	FragmentationNeeded         = 4 // code of Unreachable
	PacketTooBig6               = 2
	TimeExceeded, TimeExceeded6 = 11, 3
)

// NewEcho gives an echo request.
func NewEcho(src, dst netip.Addr) *Frame {
	typ := uint8(EchoRequest)
	if dst.Is6() {
		typ = EchoRequest6
	}
	return newICMP(src, dst, &ICMP{Type: typ, Rest: 7<<16 | 9}, []byte("01234567890123456789"))
}

// NewICMPError gives an error about a packet, as much of it as there is.
func NewICMPError(src, dst netip.Addr, typ, code uint8, rest uint32, packet []byte) *Frame {
	return newICMP(src, dst, &ICMP{Type: typ, Code: code, Rest: rest}, packet)
}

func newICMP(src, dst netip.Addr, m *ICMP, payload []byte) *Frame {
	proto := layers.IPProtocolICMPv4
	if dst.Is6() {
		proto = layers.IPProtocolICMPv6
	}
	f := newIP(src, dst, proto)
	f.L4, f.Payload = m, payload
	return f
}

// LayerType says ICMP of either version.
func (m *ICMP) LayerType() gopacket.LayerType {
	if _, ok := m.network.(*layers.IPv6); ok {
		return layers.LayerTypeICMPv6
	}
	return layers.LayerTypeICMPv4
}

// SerializeTo writes the message with its checksum, which covers a pseudo header in IPv6 (RFC 4443, section 2.3).
func (m *ICMP) SerializeTo(b gopacket.SerializeBuffer, _ gopacket.SerializeOptions) error {
	h, err := b.PrependBytes(ICMPLen)
	if err != nil {
		return err
	}
	h[0], h[1], h[2], h[3] = m.Type, m.Code, 0, 0
	binary.BigEndian.PutUint32(h[4:], m.Rest)
	pseudo := uint32(0)
	if ip, ok := m.network.(*layers.IPv6); ok {
		length := len(b.Bytes())
		pseudo = gopacket.ComputeChecksum(slices.Concat(ip.SrcIP.To16(), ip.DstIP.To16()), 0)
		pseudo += uint32(length>>16) + uint32(length&0xffff) + uint32(layers.IPProtocolICMPv6)
	}
	binary.BigEndian.PutUint16(h[2:], gopacket.FoldChecksum(gopacket.ComputeChecksum(b.Bytes(), pseudo)))
	return nil
}
