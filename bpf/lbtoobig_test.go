package bpf

import (
	"testing"

	"anycastle/internal/pkttest"

	"github.com/gopacket/gopacket/layers"
)

// What of a packet that is too big goes back.
const embed4, embed6 = 512, 1024

// tooBigAnswer is what comes back when a packet is larger than mtu.
func tooBigAnswer(t testing.TB, f made, mtu uint32) made {
	return func() *pkttest.Frame {
		g := f()
		src, dst, _ := flowOfFrame(g)
		packet := g.Packet(t)
		var a *pkttest.Frame
		if g.IP6 != nil {
			a = pkttest.NewICMPError(dst.Addr(), src.Addr(), pkttest.PacketTooBig6, 0, mtu, packet[:embed6])
			a.IP6.FlowLabel = 0
		} else {
			a = pkttest.NewICMPError(dst.Addr(), src.Addr(), pkttest.Unreachable, pkttest.FragmentationNeeded, mtu, packet[:embed4])
			a.IP.Id, a.IP.Flags = 0, layers.IPv4DontFragment
		}
		a.SetTTL(64).SetTOS(0)
		return turned(a, g)
	}
}

// turned has an answer leave the way that the request came.
func turned(answer, request *pkttest.Frame) *pkttest.Frame {
	answer.Eth.SrcMAC, answer.Eth.DstMAC, answer.Tags = request.Eth.DstMAC, request.Eth.SrcMAC, request.Tags
	return answer
}
