package pkttest

import (
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// Fragments cuts a packet into pieces of size bytes, a multiple of 8, the last one shorter. Each carries id, of which
// IPv4 has the lower half, and the extension headers that the packet has come before the fragment header.
func (f *Frame) Fragments(t testing.TB, size int, id uint32) []*Frame {
	t.Helper()
	if size <= 0 || size%8 != 0 {
		t.Fatalf("make fragments: %d bytes are no multiple of 8", size)
	}
	var all []*Frame
	whole := f.transport(t)
	for at := 0; at < len(whole); at += size {
		end := min(at+size, len(whole))
		all = append(all, f.fragment(whole[at:end], at, end < len(whole), id))
	}
	return all
}

func (f *Frame) fragment(piece []byte, at int, more bool, id uint32) *Frame {
	g := *f
	g.L4, g.Payload = nil, piece
	if f.IP6 != nil {
		ip := *f.IP6
		g.IP6 = &ip
		g.Ext = append(slices.Clone(f.Ext), FragmentAt(at, more, id))
		return &g
	}
	g.IP.Id, g.IP.FragOffset, g.IP.Flags = uint16(id), uint16(at/8), 0
	if more {
		g.IP.Flags = layers.IPv4MoreFragments
	}
	return &g
}
