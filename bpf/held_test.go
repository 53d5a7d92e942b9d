package bpf

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"anycastle/internal/pkttest"

	"golang.org/x/sys/unix"
)

// TestEarlyFragments sends a datagram in fragments, the last one first. The real's stack has it whole only if every
// fragment reached it. The frames go in where a router would send them: from the real's end of the link.
func TestEarlyFragments(t *testing.T) {
	p := newPair(t)
	p.set(t, KindIPIP, false)
	put(t, p.b.Addresses.Put(AddressKey(vipUDP.Addr()), Address{}))
	put(t, p.b.VIPs4.Put(VIPKey4{Addr: Addr4(vipUDP.Addr()), Port: Port(53), Proto: 17}, VIP{Farm: farm, Index: vipIndex}))
	setTable(t, p.b, allSlots(1))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	// it sends from its own thread, by the interfaces of that thread's namespace
	go p.lb.Do(func() error { done <- p.b.RunHeld(ctx); return nil })
	defer func() {
		cancel()
		put(t, <-done)
	}()

	var conn net.PacketConn
	p.real.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", vipUDP.String())
		return err
	})
	defer conn.Close()
	datagram := pkttest.NewUDP(client, vipUDP)
	datagram.Eth.DstMAC, datagram.Eth.SrcMAC = p.hop.SrcMac[:], p.hop.DstMac[:]
	datagram.Payload = bytes.Repeat([]byte("fragment"), 100)
	frames := datagram.Fragments(t, 320, 4711)
	send := rawSender(t, p)
	for i := len(frames) - 1; i >= 0; i-- {
		send(frames[i].Bytes(t))
	}
	got := make([]byte, 2000)
	put(t, conn.SetReadDeadline(time.Now().Add(dialTime)))
	n, from, err := conn.ReadFrom(got)
	put(t, err)
	if from.(*net.UDPAddr).AddrPort() != client || !bytes.Equal(got[:n], datagram.Payload) {
		t.Errorf("%d bytes from %v, want %d from %v", n, from, len(datagram.Payload), client)
	}
	if drops := nonZero(t, &p.b.program); drops["fragment_early"] != uint64(len(frames)-1) {
		t.Errorf("dropped %v, want %d for fragment_early", drops, len(frames)-1)
	}
}

// rawSender gives a function that sends frames from the real's end of the link.
func rawSender(t *testing.T, p *pair) func(frame []byte) {
	t.Helper()
	var fd, index int
	p.real.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		l, err := p.real.Link.LinkByName("eth1")
		if err == nil {
			index = l.Attrs().Index
		}
		return err
	})
	t.Cleanup(func() { unix.Close(fd) })
	return func(frame []byte) {
		t.Helper()
		put(t, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index}))
	}
}
