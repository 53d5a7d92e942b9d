package pkttest

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Lengths of headers, and where they are in a frame with neither tags nor options nor extension headers.
const (
	EthLen  = 14
	TagLen  = 4
	IPLen   = 20
	IP6Len  = 40
	TCPLen  = 20
	UDPLen  = 8
	ICMPLen = 8
	GUELen  = 4

	IPStart  = EthLen
	L4Start  = EthLen + IPLen
	L4Start6 = EthLen + IP6Len
)

// Frame is an Ethernet frame with an IP packet in it.
type Frame struct {
	Eth  layers.Ethernet // EthernetType is that of a frame without tags
	Tags []Tag           // outermost first

	Outer  *layers.IPv4 // nil: not in an IPv4 tunnel
	Outer6 *layers.IPv6 // nil: not in an IPv6 tunnel
	GUE    *GUE         // between the outer and the inner packet; nil: the inner packet follows at once

	IP  layers.IPv4
	IP6 *layers.IPv6 // the packet, in place of IP; NextHeader is what comes after the extension headers
	Ext []Ext        // the extension headers of IP6

	L4      gopacket.SerializableLayer // *layers.TCP, *layers.UDP, *ICMP, or nil for none
	Payload []byte
	Trailer []byte // after the end of the packet: padding of Ethernet
}

// Tag is an 802.1Q or 802.1ad tag.
type Tag struct {
	Proto uint16 // DotQ or DotAD
	TCI   uint16
}

// The ethertypes of tags.
const (
	DotQ  = 0x8100
	DotAD = 0x88a8
)

// New gives a TCP segment with ten bytes of payload from src to dst.
func New(src, dst netip.AddrPort) *Frame {
	f := newIP(src.Addr(), dst.Addr(), layers.IPProtocolTCP)
	f.L4 = &layers.TCP{
		SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: 1000, Ack: 2000, ACK: true, Window: 512,
	}
	f.Payload = []byte("0123456789")
	return f
}

// NewUDP gives a datagram instead.
func NewUDP(src, dst netip.AddrPort) *Frame {
	f := newIP(src.Addr(), dst.Addr(), layers.IPProtocolUDP)
	f.L4 = &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	f.Payload = []byte("01234567890123456789") // long enough for a frame without padding
	return f
}

// newIP gives a packet with nothing in it.
func newIP(src, dst netip.Addr, proto layers.IPProtocol) *Frame {
	f := &Frame{Eth: layers.Ethernet{SrcMAC: MAC(1), DstMAC: MAC(2), EthernetType: layers.EthernetTypeIPv4}}
	if dst.Is4() {
		f.IP = layers.IPv4{
			Version: 4, TTL: 61, TOS: 0x28, Id: 4711, Flags: layers.IPv4DontFragment, Protocol: proto,
			SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
		}
		return f
	}
	f.Eth.EthernetType = layers.EthernetTypeIPv6
	f.IP6 = &layers.IPv6{
		Version: 6, HopLimit: 61, TrafficClass: 0x28, FlowLabel: 0x12345, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
	}
	return f
}

// MAC gives the n-th documentation MAC address (RFC 7042, section 2.1.2).
func MAC(n byte) net.HardwareAddr { return net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, n} }

// SetTTL sets the TTL or hop limit.
func (f *Frame) SetTTL(n uint8) *Frame {
	if f.IP6 != nil {
		f.IP6.HopLimit = n
	} else {
		f.IP.TTL = n
	}
	return f
}

// TTL gives the TTL or hop limit.
func (f *Frame) TTL() uint8 {
	if f.IP6 != nil {
		return f.IP6.HopLimit
	}
	return f.IP.TTL
}

// SetTOS sets the type of service or traffic class: DSCP and ECN.
func (f *Frame) SetTOS(n uint8) *Frame {
	if f.IP6 != nil {
		f.IP6.TrafficClass = n
	} else {
		f.IP.TOS = n
	}
	return f
}

// TOS gives the type of service or traffic class.
func (f *Frame) TOS() uint8 {
	if f.IP6 != nil {
		return f.IP6.TrafficClass
	}
	return f.IP.TOS
}

// Bytes gives the frame with lengths and checksums filled in.
func (f *Frame) Bytes(t testing.TB) []byte {
	t.Helper()
	return append(append(f.link(), f.tunnel(t)...), f.Trailer...)
}

// link gives the Ethernet header and the tags.
func (f *Frame) link() []byte {
	b := append(bytes.Clone(f.Eth.DstMAC), f.Eth.SrcMAC...)
	for _, tag := range f.Tags {
		b = binary.BigEndian.AppendUint16(b, tag.Proto)
		b = binary.BigEndian.AppendUint16(b, tag.TCI)
	}
	kind := f.Eth.EthernetType
	if f.Outer != nil && kind == layers.EthernetTypeIPv6 {
		kind = layers.EthernetTypeIPv4
	}
	if f.Outer6 != nil && kind == layers.EthernetTypeIPv4 {
		kind = layers.EthernetTypeIPv6
	}
	return binary.BigEndian.AppendUint16(b, uint16(kind))
}

// Packet gives the IP packet alone: without Ethernet, tunnel and trailer.
func (f *Frame) Packet(t testing.TB) []byte {
	t.Helper()
	if f.IP6 == nil {
		return serialize(t, &f.IP, gopacket.Payload(f.transport(t)))
	}
	ip := *f.IP6
	first, headers := chain(f.Ext, uint8(ip.NextHeader))
	ip.NextHeader = layers.IPProtocol(first)
	return serialize(t, &ip, gopacket.Payload(append(headers, f.transport(t)...)))
}

// transport gives the segment, datagram or message.
func (f *Frame) transport(t testing.TB) []byte {
	t.Helper()
	var network gopacket.NetworkLayer = &f.IP
	if f.IP6 != nil {
		network = f.IP6
	}
	switch l4 := f.L4.(type) {
	case nil:
		return bytes.Clone(f.Payload)
	case *layers.TCP:
		check(t, l4.SetNetworkLayerForChecksum(network))
	case *layers.UDP:
		check(t, l4.SetNetworkLayerForChecksum(network))
	case *ICMP:
		l4.network = network
	}
	return serialize(t, f.L4, gopacket.Payload(f.Payload))
}

func serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	check(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...))
	return bytes.Clone(buf.Bytes())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("make a packet: %v", err)
	}
}
