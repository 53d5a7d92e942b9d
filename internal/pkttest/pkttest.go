// Package pkttest makes packets for tests of XDP programs, and shows the difference between two of them.
//
// New gives one valid packet; a test changes one field of it and asks for the bytes. Lengths and checksums are right
// unless the test says otherwise afterwards, in the bytes. The package sends nothing.
package pkttest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Offsets of headers in the frame that New gives.
const (
	EthLen  = 14
	IPLen   = 20
	TCPLen  = 20
	IPStart = EthLen
	L4Start = EthLen + IPLen
)

// Frame is an Ethernet frame with an IPv4 packet in it.
type Frame struct {
	Eth     layers.Ethernet
	Outer   *layers.IPv4 // nil: not encapsulated
	IP      layers.IPv4
	L4      gopacket.SerializableLayer // *layers.TCP, *layers.UDP, or nil for none
	Payload []byte
}

// New gives a TCP segment with ten bytes of payload from src to dst.
func New(src, dst netip.AddrPort) *Frame {
	return &Frame{
		Eth: layers.Ethernet{SrcMAC: MAC(1), DstMAC: MAC(2), EthernetType: layers.EthernetTypeIPv4},
		IP: layers.IPv4{
			Version: 4, TTL: 61, TOS: 0x28, Id: 4711, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP,
			SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(),
		},
		L4: &layers.TCP{
			SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: 1000, Ack: 2000, ACK: true, Window: 512,
		},
		Payload: []byte("0123456789"),
	}
}

// NewUDP gives a datagram instead.
func NewUDP(src, dst netip.AddrPort) *Frame {
	f := New(src, dst)
	f.IP.Protocol = layers.IPProtocolUDP
	f.L4 = &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	f.Payload = []byte("01234567890123456789") // long enough for a frame without padding
	return f
}

// MAC gives the n-th documentation MAC address (RFC 7042, section 2.1.2).
func MAC(n byte) net.HardwareAddr { return net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, n} }

// Encapsulate puts the packet into another, as a balancer does.
func (f *Frame) Encapsulate(src, dst netip.Addr) *Frame {
	f.Outer = &layers.IPv4{
		Version: 4, TTL: 64, TOS: f.IP.TOS, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolIPv4,
		SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
	}
	return f
}

// Bytes gives the frame with lengths and checksums filled in.
func (f *Frame) Bytes(t testing.TB) []byte {
	t.Helper()
	ls := []gopacket.SerializableLayer{&f.Eth}
	if f.Outer != nil {
		ls = append(ls, f.Outer)
	}
	ls = append(ls, &f.IP)
	switch l4 := f.L4.(type) {
	case *layers.TCP:
		check(t, l4.SetNetworkLayerForChecksum(&f.IP))
		ls = append(ls, l4)
	case *layers.UDP:
		check(t, l4.SetNetworkLayerForChecksum(&f.IP))
		ls = append(ls, l4)
	}
	ls = append(ls, gopacket.Payload(f.Payload))
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

// Diff is empty if the frames are the same, and shows both decoded otherwise.
func Diff(want, got []byte) string {
	if bytes.Equal(want, got) {
		return ""
	}
	at := 0
	for at < len(want) && at < len(got) && want[at] == got[at] {
		at++
	}
	return fmt.Sprintf("first difference at byte %d of %d wanted, %d got\nwant %s\ngot %s",
		at, len(want), len(got), decode(want), decode(got))
}

func decode(frame []byte) string {
	return gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).Dump()
}
