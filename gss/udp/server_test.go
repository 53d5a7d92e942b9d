package udp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/netnstest"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestAddresses asks a server at each of its addresses: the reply comes from the one that was asked.
func TestAddresses(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	lo, err := ns.Link.LinkByName("lo")
	check(t, err)
	for _, a := range []string{"192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128", "2001:db8::2/128"} {
		addr, err := netlink.ParseAddr(a)
		check(t, err)
		addr.Flags = unix.IFA_F_NODAD
		check(t, ns.Link.AddrAdd(lo, addr))
	}
	for _, tc := range []struct {
		name, listen string
		ask          []string
	}{
		{"one of IPv4", "192.0.2.1", []string{"192.0.2.1"}},
		{"one of IPv6", "2001:db8::1", []string{"2001:db8::1"}},
		{"all of IPv4", "0.0.0.0", []string{"127.0.0.1", "192.0.2.1", "192.0.2.2", "127.1.2.3"}},
		{"all of IPv6", "::", []string{"::1", "2001:db8::1", "2001:db8::2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := netip.AddrPortFrom(netip.MustParseAddr(tc.listen), 0)
			s := listenIn(t, ns, Config{Listen: []netip.AddrPort{at}, Sockets: 2})
			serve(t, s)
			for _, a := range tc.ask {
				c := dialIn(t, ns, netip.AddrPortFrom(netip.MustParseAddr(a), s.Addrs()[0].Port()))
				for _, query := range []string{"fast", "slow"} {
					send(t, c, query)
					expect(t, c, query)
				}
			}
		})
	}
}

// TestLinkLocal asks by an address that means nothing without its link, over one of two links.
func TestLinkLocal(t *testing.T) {
	t.Parallel()
	here, there, elsewhere := netnstest.New(t), netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, here, "eth0", netip.MustParsePrefix("fe80::9/64"), elsewhere, "eth0", netip.MustParsePrefix("fe80::2/64"))
	netnstest.Veth(t, here, "eth1", netip.MustParsePrefix("fe80::1/64"), there, "eth1", netip.MustParsePrefix("fe80::2/64"))
	s := listenIn(t, here, Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("[::]:0")}})
	serve(t, s)
	c := dialIn(t, there, netip.AddrPortFrom(netip.MustParseAddr("fe80::1%eth1"), s.Addrs()[0].Port()))
	for _, query := range []string{"fast", "slow"} {
		send(t, c, query)
		expect(t, c, query)
	}
}

// TestSeveralAddressesAndSockets has every socket used, and all of an address on one port.
func TestSeveralAddressesAndSockets(t *testing.T) {
	t.Parallel()
	any := netip.MustParseAddrPort("127.0.0.1:0")
	e := newEcho()
	s := listen(t, Config{Listen: []netip.AddrPort{any, any}, Sockets: 2}, e)
	serve(t, s)
	addrs := s.Addrs()
	if len(addrs) != 2 || addrs[0] == addrs[1] || len(s.Counters()) != 4 {
		t.Fatalf("addresses %v, %d sockets", addrs, len(s.Counters()))
	}
	for range 64 { // from as many ports, so that the kernel's hash meets each socket
		for _, a := range addrs {
			c := dial(t, a)
			send(t, c, "fast")
			expect(t, c, "fast")
		}
	}
	for i, c := range s.Counters() {
		if c.Received == 0 || c.Socket != i || c.Listen != addrs[i/2] {
			t.Errorf("socket %d: %+v", i, c)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range 4 {
		if e.begun[i] == 0 {
			t.Errorf("lane %d never began", i)
		}
	}
}

// TestBusySlowPath fills the places for slow queries: those too many are dropped and counted, and fast ones go on.
func TestBusySlowPath(t *testing.T) {
	t.Parallel()
	const queue, asked = 3, 10
	e := newEcho()
	s := listen(t, Config{Sockets: 1, Workers: 1, Queue: queue}, e)
	stop := serve(t, s)
	c := dial(t, s.Addrs()[0])
	for range asked {
		send(t, c, "held")
	}
	eventually(t, "all are read", func() bool { return total(s).Received == asked })
	for range 20 {
		send(t, c, "fast")
		expect(t, c, "fast")
	}
	if got := total(s); got.Dropped[QueueFull] != asked-queue || got.Slow != 0 {
		t.Errorf("%d of %d dropped with %d places, %d answered", got.Dropped[QueueFull], asked, queue, got.Slow)
	}
	ended := make(chan error, 1)
	go func() { ended <- stop() }() // waited for below
	close(e.held)
	for range queue { // those that wait when the server ends are answered still
		expect(t, c, "held")
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
	if got := total(s); got.Slow != queue {
		t.Errorf("%d slow replies, want %d", got.Slow, queue)
	}
}

// TestEveryQueryIsCounted sends what deserves no reply, too.
func TestEveryQueryIsCounted(t *testing.T) {
	t.Parallel()
	s := listen(t, Config{Sockets: 1}, newEcho())
	serve(t, s)
	c := dial(t, s.Addrs()[0])
	largest := "f" + strings.Repeat("x", MaxQuery-1)
	for _, query := range []string{"fast", "", "drop", largest, largest + "y", strings.Repeat("z", 60000), "none", "slow", "fast"} {
		send(t, c, query)
		if query == "fast" || query == "slow" || query == largest {
			expect(t, c, query)
		}
	}
	want := Counters{Received: 9, Fast: 3, Slow: 1}
	want.Dropped[Unwanted], want.Dropped[Oversize], want.Dropped[Unanswered] = 2, 2, 1
	eventually(t, "all is counted", func() bool {
		got := total(s)
		got.Batches = want.Batches
		return got == want
	})
}

// TestFromPortZero sends what no reply could reach.
func TestFromPortZero(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	s := listenIn(t, ns, Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Sockets: 1})
	serve(t, s)
	port := s.Addrs()[0].Port()
	ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		datagram := []byte{0, 0, byte(port >> 8), byte(port), 0, 12, 0, 0, 'f', 'a', 's', 't'}
		return unix.Sendto(fd, datagram, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	})
	eventually(t, "it is counted", func() bool { return total(s).Dropped[NoPort] == 1 })
}

// TestClientsThatAreGone has replies come back as ICMP errors: the server goes on.
func TestClientsThatAreGone(t *testing.T) {
	t.Parallel()
	s := listen(t, Config{Sockets: 1}, newEcho())
	serve(t, s)
	for i := range 50 {
		c := dial(t, s.Addrs()[0])
		send(t, c, "slow")
		send(t, c, "fast")
		c.Close()
		eventually(t, "they are read", func() bool { return total(s).Received == uint64(3*i+2) })
		c = dial(t, s.Addrs()[0])
		send(t, c, "fast")
		expect(t, c, "fast")
	}
}

func TestErrorsOfListen(t *testing.T) {
	t.Parallel()
	at := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	for name, cfg := range map[string]Config{
		"no address":       {},
		"zero address":     {Listen: make([]netip.AddrPort, 1)},
		"IPv4 in IPv6":     {Listen: []netip.AddrPort{netip.MustParseAddrPort("[::ffff:127.0.0.1]:0")}},
		"negative sockets": {Listen: at, Sockets: -1},
		"negative queue":   {Listen: at, Queue: -1},
	} {
		if _, err := Listen(cfg, newEcho()); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign := []netip.AddrPort{at[0], netip.MustParseAddrPort("192.0.2.1:0")}
	if _, err := Listen(Config{Listen: foreign}, newEcho()); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("address of somebody else: %v", err)
	}
	other, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(other)
	check(t, unix.Bind(other, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})) // does not share
	name, err := unix.Getsockname(other)
	check(t, err)
	if _, err := Listen(Config{Listen: []netip.AddrPort{addrPort(name)}}, newEcho()); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("port of somebody else: %v", err)
	}
}

// TestSocketThatIsNoMore has Serve end when there is nothing to read from any more.
func TestSocketThatIsNoMore(t *testing.T) {
	t.Parallel()
	s := listen(t, Config{Sockets: 2}, newEcho())
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(null)
	check(t, unix.Dup2(null, s.sockets[1].fd))
	if err := s.Serve(t.Context()); !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("Serve: %v", err)
	}
}

// TestWhatIsQueuedAtTheEnd has all queries answered that came before the end, however late they are read.
func TestWhatIsQueuedAtTheEnd(t *testing.T) {
	t.Parallel()
	const asked = 300 // several batches
	s := listen(t, Config{Sockets: 2}, newEcho())
	var wait sync.WaitGroup
	for i := range asked {
		c := dial(t, s.Addrs()[0])
		query := fmt.Sprint([]string{"fast", "slow"}[i%2], i)
		send(t, c, query)
		wait.Go(func() {
			c.SetReadDeadline(time.Now().Add(patience))
			buf := make([]byte, 64)
			if n, err := c.Read(buf); err != nil || string(buf[:n]) != query {
				t.Errorf("reply %q to %q: %v", buf[:n], query, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Serve(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
	wait.Wait()
	got := total(s)
	if got.Fast != asked/2 || got.Slow != asked/2 || got.Batches[0] == asked {
		t.Errorf("%+v", got)
	}
}
