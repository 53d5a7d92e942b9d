package pkttest

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// GUEPort is the port that generic UDP encapsulation goes to.
const GUEPort = 6080

// GUE is a UDP header without checksum and a GUE header of variant 0 without flags.
type GUE struct {
	SrcPort uint16
	Proto   uint8  // of what is inside
	Private []byte // a multiple of 4 bytes
}

// SecondHop gives the private data that names a second hop.
func SecondHop(a netip.Addr) []byte {
	family := byte(6)
	if a.Is4() {
		family = 4
	}
	return append([]byte{1, 1, family, 0}, a.AsSlice()...)
}

// Encapsulate puts the packet into another, IPv4 or IPv6 by the addresses, that begins its own way with a TTL of 64.
func (f *Frame) Encapsulate(src, dst netip.Addr) *Frame {
	proto := layers.IPProtocolIPv4
	if f.IP6 != nil {
		proto = layers.IPProtocolIPv6
	}
	if f.GUE != nil {
		f.GUE.Proto, proto = uint8(proto), layers.IPProtocolUDP
	}
	if dst.Is4() {
		f.Outer = &layers.IPv4{
			Version: 4, TTL: 64, TOS: f.TOS(), Flags: layers.IPv4DontFragment, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
		}
	} else {
		f.Outer6 = &layers.IPv6{
			Version: 6, HopLimit: 64, TrafficClass: f.TOS(), NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
		}
	}
	return f
}

// Tunnel says how a balancer encapsulates a packet.
type Tunnel struct {
	Src, Dst netip.Addr
	Hash     uint64     // of the flow: its lower half gives the flow label of an IPv6 header and the source port of GUE
	GUE      bool       // false: IP in IP
	Second   netip.Addr // the second hop in GUE, if there is one
}

// Wrap encapsulates the packet as a balancer does: the outer packet goes on with the inner one's TTL and class.
func (f *Frame) Wrap(tun Tunnel) *Frame {
	if tun.GUE {
		f.GUE = &GUE{SrcPort: 49152 | uint16(tun.Hash&0x3fff)}
		if tun.Second.IsValid() {
			f.GUE.Private = SecondHop(tun.Second)
		}
	}
	f.Encapsulate(tun.Src, tun.Dst)
	if f.Outer != nil {
		f.Outer.TTL = f.TTL()
	} else {
		f.Outer6.HopLimit = f.TTL()
		f.Outer6.FlowLabel = uint32(tun.Hash) >> 12
	}
	return f
}

// Decapsulate undoes Encapsulate and Wrap.
func (f *Frame) Decapsulate() *Frame {
	f.Outer, f.Outer6, f.GUE = nil, nil, nil
	return f
}

// tunnel gives the packet with what is around it.
func (f *Frame) tunnel(t testing.TB) []byte {
	t.Helper()
	b := f.Packet(t)
	if f.GUE != nil {
		if len(f.GUE.Private)%4 != 0 {
			t.Fatalf("make a packet: %d bytes of private data are no multiple of 4", len(f.GUE.Private))
		}
		head := binary.BigEndian.AppendUint16(nil, f.GUE.SrcPort)
		head = binary.BigEndian.AppendUint16(head, GUEPort)
		head = binary.BigEndian.AppendUint16(head, uint16(UDPLen+GUELen+len(f.GUE.Private)+len(b)))
		head = append(head, 0, 0, byte(len(f.GUE.Private)/4), f.GUE.Proto, 0, 0)
		b = append(append(head, f.GUE.Private...), b...)
	}
	switch {
	case f.Outer != nil:
		return serialize(t, f.Outer, gopacket.Payload(b))
	case f.Outer6 != nil:
		return serialize(t, f.Outer6, gopacket.Payload(b))
	}
	return b
}
