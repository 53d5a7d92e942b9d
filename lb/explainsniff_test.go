package lb

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// sniff opens the socket that reads what comes to the router from the balancer.
func (p *explainedPath) sniff() {
	index := link(p.t, p.router, "to-lb").Attrs().Index
	p.router.Do(func() (err error) {
		all := uint16(unix.ETH_P_ALL)
		if p.sniffer, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all<<8|all>>8)); err != nil {
			return err
		}
		return unix.Bind(p.sniffer, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: index})
	})
	p.t.Cleanup(func() { unix.Close(p.sniffer) })
}

// seen gives the first frame from the balancer that is as wanted.
func (p *explainedPath) seen(what string, want func(gopacket.Packet) bool) gopacket.Packet {
	p.t.Helper()
	var found gopacket.Packet
	buf := make([]byte, 4096)
	eventually(p.t, what+" seen", func() bool {
		for {
			n, from, err := unix.Recvfrom(p.sniffer, buf, 0)
			if errors.Is(err, unix.EAGAIN) {
				return false
			}
			check(p.t, err)
			if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			if found = gopacket.NewPacket(append([]byte(nil), buf[:n]...), layers.LayerTypeEthernet, gopacket.Default); want(found) {
				return true
			}
		}
	})
	return found
}

// forget reads what was seen before.
func (p *explainedPath) forget() {
	buf := make([]byte, 4096)
	for {
		if _, _, err := unix.Recvfrom(p.sniffer, buf, 0); err != nil {
			return
		}
	}
}

// outer is how a live frame left.
type outer struct {
	to, second netip.Addr
	mac        string
}

// readOuter reads the frame of a client's port, which is IP in IPv4 or GUE in IPv4.
func readOuter(f gopacket.Packet, port uint16) (o outer, ok bool) {
	ip, isIP := f.NetworkLayer().(*layers.IPv4)
	if !isIP {
		return o, false
	}
	o.to, _ = netip.AddrFromSlice(ip.DstIP)
	o.mac = f.LinkLayer().(*layers.Ethernet).DstMAC.String()
	inner := ip.Payload
	if ip.Protocol == layers.IPProtocolUDP && len(inner) > 12 && binary.BigEndian.Uint16(inner[2:]) == 6080 {
		private := inner[12 : 12+4*int(inner[8]&0x1f)]
		inner = inner[12+len(private):]
		if len(private) == 8 {
			o.second, _ = netip.AddrFromSlice(private[4:])
		}
	}
	if len(inner) < 60 && (len(inner) < 40 || inner[0]>>4 != 4) {
		return o, false
	}
	at := 20
	if inner[0]>>4 == 6 {
		at = 40
	}
	return o, binary.BigEndian.Uint16(inner[at:]) == port
}
