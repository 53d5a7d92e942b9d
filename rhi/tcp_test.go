package rhi

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// connect makes a TCP connection between two namespaces, with the socketDiag of the dialling one. The listener reads
// nothing by itself.
func connect(t testing.TB, a, b string) (ns *node, near *net.TCPConn, diag *socketDiag) {
	t.Helper()
	from, to := netip.MustParsePrefix(a), netip.MustParsePrefix(b)
	other := netnstest.New(t)
	ns = newNode(t, "near")
	netnstest.Veth(t, ns.ns, "eth0", from, other, "eth0", to)
	var l net.Listener
	other.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(to.Addr(), 1179).String())
		return err
	})
	defer l.Close()
	ns.ns.Do(func() (err error) {
		if diag, err = openSocketDiag(); err != nil {
			return err
		}
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err == nil {
			near = c.(*net.TCPConn)
		}
		return err
	})
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close(); diag.close() })
	return ns, near, diag
}

func port(a net.Addr) uint16 { return uint16(a.(*net.TCPAddr).Port) }

// What is written to a connection is counted to the byte, whether it has left the node or not, and what the other end's TCP
// has got.
func TestSocketCounts(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string][2]string{
		"IPv4": {"192.0.2.0/31", "192.0.2.1/31"}, "IPv6": {"2001:db8::/127", "2001:db8::1/127"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns, near, diag := connect(t, ends[0], ends[1])
			peer := netip.MustParsePrefix(ends[1]).Addr()
			id, err := diag.find(peer, port(near.LocalAddr()), port(near.RemoteAddr()))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := diag.find(peer.Next(), port(near.LocalAddr()), port(near.RemoteAddr())); err == nil {
				t.Error("found a connection with another address")
			}
			if _, err := diag.find(peer, 1, port(near.RemoteAddr())); err == nil {
				t.Error("found a connection from another port")
			}
			total := uint64(0)
			for _, size := range []int{1, 19, 4096, 100} {
				if _, err := near.Write(make([]byte, size)); err != nil {
					t.Fatal(err)
				}
				total += uint64(size)
				if c, err := diag.count(peer, id); err != nil || c.written != total {
					t.Errorf("wrote %d in all: %+v, %v", total, c, err)
				}
			}
			eventually(t, "acknowledged", soon, func() bool { c, _ := diag.count(peer, id); return c.acked >= total })
			ns.nft("add table inet deaf; add chain inet deaf in { type filter hook input priority 0; policy drop; }")
			total += uint64(use(t, near, func(fd int) int { n, _ := unix.Write(fd, make([]byte, 100)); return n }))
			eventually(t, "sent again", soon, func() bool {
				return 0 < use(t, near, func(fd int) int {
					info, _ := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
					return int(info.Total_retrans)
				})
			})
			if c, err := diag.count(peer, id); err != nil || c.written != total || c.acked >= total {
				t.Errorf("wrote %d in all, some of it twice: %+v, %v", total, c, err)
			}
			ns.nft("delete table inet deaf")
			full := uint64(use(t, near, fill))
			c, err := diag.count(peer, id)
			if want := total + full; err != nil || c.written != want || c.acked >= want {
				t.Errorf("wrote %d in all to an end that reads nothing: %+v, %v", want, c, err)
			}
			near.Close()
			eventually(t, "no count of a closed connection", soon, func() bool { _, err := diag.count(peer, id); return err != nil })
		})
	}
}

// use calls the kernel about a connection.
func use(t *testing.T, c *net.TCPConn, do func(fd int) int) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { n = do(int(fd)) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fill writes to a connection until it takes no more, and says how much it took.
func fill(fd int) (taken int) {
	for {
		n, err := unix.Write(fd, make([]byte, 1<<16))
		if err != nil {
			return taken
		}
		taken += n
	}
}

func BenchmarkSocketCount(b *testing.B) {
	_, near, diag := connect(b, "192.0.2.0/31", "192.0.2.1/31")
	peer := netip.MustParseAddr("192.0.2.1")
	id, err := diag.find(peer, port(near.LocalAddr()), port(near.RemoteAddr()))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := diag.count(peer, id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSocketFind(b *testing.B) {
	_, near, diag := connect(b, "192.0.2.0/31", "192.0.2.1/31")
	for b.Loop() {
		if _, err := diag.find(netip.MustParseAddr("192.0.2.1"), port(near.LocalAddr()), port(near.RemoteAddr())); err != nil {
			b.Fatal(err)
		}
	}
}
