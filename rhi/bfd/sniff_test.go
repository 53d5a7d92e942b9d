package bfd

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// caught is a BFD packet as it was on the link.
type caught struct {
	at       time.Time
	src, dst netip.Addr
	ttl      int
	from, to int // ports
	packet
}

// sniffer keeps the BFD packets of a namespace's links, also of those that are filtered.
type sniffer struct {
	mu   sync.Mutex
	list []caught
}

func sniff(t testing.TB, ns *netnstest.NS) *sniffer {
	t.Helper()
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	var file *os.File
	ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
		if err == nil {
			file = os.NewFile(uintptr(fd), "sniffer")
		}
		return err
	})
	s := &sniffer{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			n, err := file.Read(b)
			if err != nil {
				return
			}
			if c, ok := dissect(b[:n]); ok {
				s.mu.Lock()
				s.list = append(s.list, c)
				s.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() { file.Close(); <-done })
	return s
}

// dissect reads an IP packet that may be BFD's.
func dissect(b []byte) (c caught, ok bool) {
	c.at = time.Now()
	var rest []byte
	switch {
	case len(b) >= 28 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_UDP:
		c.ttl, c.src, c.dst, rest = int(b[8]), addr4(b[12:]), addr4(b[16:]), b[int(b[0]&15)*4:]
	case len(b) >= 48 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP:
		c.ttl, c.src, c.dst, rest = int(b[7]), addr6(b[8:]), addr6(b[24:]), b[40:]
	default:
		return c, false
	}
	if len(rest) < 8 {
		return c, false
	}
	c.from, c.to = int(binary.BigEndian.Uint16(rest)), int(binary.BigEndian.Uint16(rest[2:]))
	return c, (c.to == oneHopPort || c.to == multihopPort) && c.decode(rest[8:]) == taken
}

func (s *sniffer) caught() []caught {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

func (s *sniffer) await(t testing.TB, what string, ok func([]caught) bool) {
	t.Helper()
	eventually(t, what, func() bool { return ok(s.caught()) }, func() string { return fmt.Sprintf("%+v", s.caught()) })
}
