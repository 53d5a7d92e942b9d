package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Types of the messages of RFC 792 and RFC 4443.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// icmp sends an echo request and waits for its reply.
func icmp(ctx context.Context, t Target, _ *Advice) error {
	f, err := t.openICMP()
	if err != nil {
		return err
	}
	defer f.Close()
	// its only error is that f is closed already
	defer context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })()
	token := make([]byte, 16)
	rand.Read(token)
	if _, err := f.Write(echoRequest(t.Addr.Addr(), token)); err != nil {
		return cause(err, t.Config.Timeout)
	}
	packet := make([]byte, 1500)
	for {
		n, err := f.Read(packet)
		if err != nil {
			return cause(err, t.Config.Timeout)
		}
		if isEchoReply(packet[:n], token, t.Addr.Addr().Unmap().Is6()) {
			return nil
		}
	}
}

// openICMP opens a socket connected to the target: one of those that need no privilege where the group is allowed them
// (net.ipv4.ping_group_range), and a raw one elsewhere.
func (t *Target) openICMP() (*os.File, error) {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if t.Addr.Addr().Unmap().Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	}
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("open an ICMP socket (needs CAP_NET_RAW, or this group in net.ipv4.ping_group_range): %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open an ICMP socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "icmp")
	if err := t.join(fd); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// join marks, binds and connects a socket. Connected, it is told of errors that routers report, and takes packets of
// the target alone.
func (t *Target) join(fd int) error {
	if err := t.mark(fd); err != nil {
		return err
	}
	if t.Source.IsValid() {
		if err := unix.Bind(fd, sockaddr(t.Source)); err != nil {
			return fmt.Errorf("bind to %v: %w", t.Source, err)
		}
	}
	if err := unix.Connect(fd, sockaddr(t.Addr.Addr())); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a = a.Unmap(); a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

// echoRequest makes a request with the token in its identifier, sequence number and data. The kernel puts an identifier
// of its own into those of an unprivileged socket, and the checksum into those of IPv6.
func echoRequest(to netip.Addr, token []byte) []byte {
	packet := make([]byte, 4, 4+len(token))
	packet[0] = echoRequest6
	if to.Unmap().Is4() {
		packet[0] = echoRequest4
	}
	packet = append(packet, token...)
	if packet[0] == echoRequest4 {
		binary.BigEndian.PutUint16(packet[2:], checksum(packet))
	}
	return packet
}

// checksum is that of RFC 1071, of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum)
}

// isEchoReply says whether a packet is the reply to the request with the token. A raw IPv4 socket gives the IP header
// as well.
func isEchoReply(packet, token []byte, six bool) bool {
	want := byte(echoReply6)
	if !six {
		want = echoReply4
		if len(packet) >= 20 && packet[0]>>4 == 4 {
			packet = packet[min(len(packet), int(packet[0]&15)*4):]
		}
	}
	// the identifier is the kernel's or ours; sequence number and data are ours
	return len(packet) >= 4+len(token) && packet[0] == want && packet[1] == 0 && bytes.Equal(packet[6:4+len(token)], token[2:])
}
