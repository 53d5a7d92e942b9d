package chaos

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/proctest"
)

// delayed joins two hosts by a line that takes its time: a TUN device in each, and this process between them, which keeps every
// packet for as long as it takes. Not every kernel can delay packets by itself.
func (n *network) delayed(a, aAddr, b, bAddr string, each time.Duration) {
	n.t.Helper()
	from, to := n.tun(a, aAddr), n.tun(b, bAddr)
	var wg sync.WaitGroup
	n.t.Cleanup(func() {
		from.Close()
		to.Close()
		wg.Wait()
	})
	wg.Go(func() { relay(n.t, from, to, each) })
	wg.Go(func() { relay(n.t, to, from, each) })
}

// tun makes the DC link's end in a host.
func (n *network) tun(host, addr string) *os.File {
	n.t.Helper()
	ns := n.hosts[host].ns
	var fd int
	ns.Do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		request, err := unix.NewIfreq(dcLink)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	})
	link, err := ns.Link.LinkByName(dcLink)
	proctest.Check(n.t, err)
	own, err := netlink.ParseAddr(netip.MustParsePrefix(addr).String())
	proctest.Check(n.t, err)
	proctest.Check(n.t, errors.Join(ns.Link.AddrAdd(link, own), ns.Link.LinkSetUp(link)))
	return os.NewFile(uintptr(fd), "tun of "+host)
}

// held is a packet that is on its way.
type held struct {
	due    time.Time
	packet []byte
}

// relay passes packets on, each when its time has come, until one of the ends is closed. A line holds so many; more are lost.
func relay(t testing.TB, from, to *os.File, each time.Duration) {
	line := make(chan held, 10_000)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(line)
	wg.Go(func() {
		for h := range line {
			time.Sleep(time.Until(h.due))
			if _, err := to.Write(h.packet); err != nil && !errors.Is(err, os.ErrClosed) {
				t.Logf("the line loses a packet: %v", err)
			}
		}
	})
	buf := make([]byte, 65536)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return // closed
		}
		select {
		case line <- held{time.Now().Add(each), append([]byte(nil), buf[:n]...)}:
		default:
		}
	}
}
