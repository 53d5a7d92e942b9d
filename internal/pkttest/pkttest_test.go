package pkttest

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	client4 = netip.MustParseAddrPort("192.0.2.7:40000")
	vip4    = netip.MustParseAddrPort("203.0.113.10:25")
	client6 = netip.MustParseAddrPort("[2001:db8::7]:40000")
	vip6    = netip.MustParseAddrPort("[2001:db8:1::10]:25")
	lb4     = netip.MustParseAddr("198.51.100.1")
	real4   = netip.MustParseAddr("198.51.100.9")
	lb6     = netip.MustParseAddr("2001:db8:2::1")
	real6   = netip.MustParseAddr("2001:db8:2::9")
)

// layersOf decodes a frame with another decoder than the one that made it, and fails for anything that does not decode.
func layersOf(t *testing.T, frame []byte) []string {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("%v\n%s", e.Error(), p.Dump())
	}
	var names []string
	for _, l := range p.Layers() {
		names = append(names, l.LayerType().String())
	}
	if errs := checksumErrors(p); errs != "[]" {
		t.Errorf("checksums: %s\n%s", errs, p.Dump())
	}
	return names
}

func checksumErrors(p gopacket.Packet) string {
	var network gopacket.NetworkLayer
	for _, l := range p.Layers() {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			network = n
		}
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := l.SetNetworkLayerForChecksum(network); err != nil {
				return err.Error()
			}
		}
	}
	err, mismatches := p.VerifyChecksums()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(mismatches)
}

func TestFramesDecode(t *testing.T) {
	echo4, echo6 := NewEcho(client4.Addr(), vip4.Addr()), NewEcho(client6.Addr(), vip6.Addr())
	about4 := NewICMPError(client4.Addr(), vip4.Addr(), Unreachable, FragmentationNeeded, 1400, New(vip4, client4).Packet(t)[:28])
	about6 := NewICMPError(client6.Addr(), vip6.Addr(), PacketTooBig6, 0, 1400, New(vip6, client6).Packet(t))
	tagged := New(client4, vip4)
	tagged.Tags = []Tag{{DotAD, 100}, {DotQ, 200}}
	headers := New(client6, vip6)
	headers.Ext = []Ext{HopByHop(0), Destination(1), Routing(0), FragmentAt(0, false, 9)}
	long := New(client6, vip6)
	long.Ext = []Ext{Destination(255)}
	for _, tc := range []struct {
		name  string
		frame *Frame
		want  []string
	}{
		{"tcp4", New(client4, vip4), []string{"Ethernet", "IPv4", "TCP", "Payload"}},
		{"udp6", NewUDP(client6, vip6), []string{"Ethernet", "IPv6", "UDP", "Payload"}},
		{"tags", tagged, []string{"Ethernet", "Dot1Q", "Dot1Q", "IPv4", "TCP", "Payload"}},
		{"extension headers", headers,
			[]string{"Ethernet", "IPv6", "IPv6HopByHop", "IPv6Destination", "IPv6Routing", "IPv6Fragment", "Fragment"}},
		{"longest header", long, []string{"Ethernet", "IPv6", "IPv6Destination", "TCP", "Payload"}},
		{"echo4", echo4, []string{"Ethernet", "IPv4", "ICMPv4", "Payload"}},
		{"echo6", echo6, []string{"Ethernet", "IPv6", "ICMPv6", "ICMPv6Echo", "Payload"}},
		{"error4", about4, []string{"Ethernet", "IPv4", "ICMPv4", "Payload"}},
		{"error6", about6, []string{"Ethernet", "IPv6", "ICMPv6", "Payload"}},
		{"4 in 4", New(client4, vip4).Wrap(Tunnel{Src: lb4, Dst: real4}), []string{"Ethernet", "IPv4", "IPv4", "TCP", "Payload"}},
		{"6 in 4", New(client6, vip6).Wrap(Tunnel{Src: lb4, Dst: real4}), []string{"Ethernet", "IPv4", "IPv6", "TCP", "Payload"}},
		{"4 in 6", New(client4, vip4).Wrap(Tunnel{Src: lb6, Dst: real6}), []string{"Ethernet", "IPv6", "IPv4", "TCP", "Payload"}},
		{"6 in 6", New(client6, vip6).Wrap(Tunnel{Src: lb6, Dst: real6}), []string{"Ethernet", "IPv6", "IPv6", "TCP", "Payload"}},
		{"gue", New(client6, vip6).Wrap(Tunnel{Src: lb4, Dst: real4, GUE: true}),
			[]string{"Ethernet", "IPv4", "UDP", "Payload"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, layersOf(t, tc.frame.Bytes(t))); diff != "" {
				t.Errorf("layers (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTunnelHeaders holds the bytes of the outer headers to what RFC 791, RFC 8200 and the GUE draft write.
func TestTunnelHeaders(t *testing.T) {
	second := netip.MustParseAddr("198.51.100.10")
	f := New(client6, vip6).SetTTL(9).SetTOS(0xb9).Wrap(Tunnel{Src: lb6, Dst: real6, Hash: 0xfedc_abcd_1234, GUE: true, Second: second})
	inner := f.Packet(t)
	b := f.Bytes(t)[EthLen:]
	want := []byte{0x6b, 0x9a, 0xbc, 0xd1, 0, byte(UDPLen + GUELen + 8 + len(inner)), 17, 9} // label: 0xabcd1234 >> 12
	want = append(append(want, lb6.AsSlice()...), real6.AsSlice()...)
	want = append(want, 0xd2, 0x34, 0x17, 0xc0, 0, byte(UDPLen+GUELen+8+len(inner)), 0, 0) // 0xc000|0x1234, 6080
	want = append(want, 2, 41, 0, 0, 1, 1, 4, 0, 198, 51, 100, 10)
	if !bytes.Equal(want, b[:len(b)-len(inner)]) {
		t.Errorf("headers\n%x, want\n%x", b[:len(b)-len(inner)], want)
	}
	if !bytes.Equal(inner, b[len(b)-len(inner):]) {
		t.Error("the inner packet changed")
	}
	if got := f.Decapsulate().Bytes(t)[EthLen:]; !bytes.Equal(got, inner) {
		t.Errorf("taken off: %x, want %x", got, inner)
	}
}

// TestFragmentsMakeTheWhole puts the pieces together again.
func TestFragmentsMakeTheWhole(t *testing.T) {
	for name, f := range map[string]*Frame{"v4": NewUDP(client4, vip4), "v6": NewUDP(client6, vip6)} {
		f.Payload = bytes.Repeat([]byte("abcdefghi"), 11)
		packet := f.Packet(t)
		head := len(packet) - UDPLen - len(f.Payload)
		var whole []byte
		pieces := f.Fragments(t, 32, 0x10007)
		for i, piece := range pieces {
			layersOf(t, piece.Bytes(t))
			at, more, id := int(piece.IP.FragOffset)*8, piece.IP.Flags&layers.IPv4MoreFragments != 0, uint32(piece.IP.Id)
			if f.IP6 != nil {
				h := piece.Ext[0].Rest
				at, more, id = int(h[1])<<8|int(h[2]&^7), h[2]&1 != 0, uint32(h[4])<<16|uint32(h[5])<<8|uint32(h[6])
			}
			if at != len(whole) || more != (i < len(pieces)-1) || id&0xffff != 7 {
				t.Errorf("%s: piece %d: offset %d, more %t, id %d", name, i, at, more, id)
			}
			whole = append(whole, piece.Payload...)
		}
		if len(pieces) != 4 || !bytes.Equal(whole, packet[head:]) {
			t.Errorf("%s: %d pieces make %x, want 4 that make %x", name, len(pieces), whole, packet[head:])
		}
	}
}

func TestDiffShowsLayers(t *testing.T) {
	a, b := New(client4, vip4).Bytes(t), New(client4, vip4).SetTTL(3).Bytes(t)
	if Diff(a, a) != "" {
		t.Error("a frame differs from itself")
	}
	if diff := Diff(a, b); !bytes.Contains([]byte(diff), []byte("byte 22 ")) || !bytes.Contains([]byte(diff), []byte("TTL=3")) {
		t.Errorf("difference in the TTL at byte 22 is shown as\n%s", diff)
	}
}
