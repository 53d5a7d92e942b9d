package gssbench

import (
	endian "encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"anycastle/internal/proctest"
)

// tap sees the questions that pass the router over UDP.
type tap struct {
	mu   sync.Mutex
	seen map[netip.Addr][]*dns.Msg // by who asks
}

// tapRouter begins to listen on the router, until the test ends.
func (w *world) tapRouter() *tap {
	w.t.Helper()
	var fd int
	w.router.Do(func() (err error) {
		protocol := endian.NativeEndian.Uint16([]byte{0x08, 0x00}) // IPv4's, in network order
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(protocol))
		return err
	})
	proctest.Check(w.t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	t := &tap{seen: map[netip.Addr][]*dns.Msg{}}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { t.listen(fd, quit) })
	w.t.Cleanup(func() {
		close(quit)
		wg.Wait()
		unix.Close(fd)
	})
	return t
}

func (t *tap) listen(fd int, quit chan struct{}) {
	buf := make([]byte, 4096)
	for {
		select {
		case <-quit:
			return
		default:
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return
		}
		t.take(buf[:n])
	}
}

// take takes an IPv4 packet, and keeps the question that is in it, if there is one.
func (t *tap) take(packet []byte) {
	if len(packet) < 20 || packet[9] != unix.IPPROTO_UDP {
		return
	}
	udp := packet[int(packet[0]&15)*4:]
	if len(udp) < 8 || endian.BigEndian.Uint16(udp[2:]) != 53 {
		return
	}
	m := new(dns.Msg)
	if m.Unpack(udp[8:]) != nil || len(m.Question) != 1 {
		return
	}
	from, _ := netip.AddrFromSlice(packet[12:16])
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen[from] = append(t.seen[from], m)
}

// asked says whether a host has asked something that is so.
func (t *tap) asked(from netip.Addr, is func(*dns.Msg) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.seen[from], is)
}
