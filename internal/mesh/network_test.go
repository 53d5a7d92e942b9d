package mesh

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/vishvananda/netlink"

	"anycastle/internal/netnstest"
	"anycastle/internal/porttest"
)

// pluggedNetwork is the host's network until unplug, and none from then on: as if the machine was cut off.
func pluggedNetwork() (n network, unplug func()) {
	var mu sync.Mutex
	var closers []func() error
	gone := false
	keep := func(c func() error) {
		mu.Lock()
		defer mu.Unlock()
		closers = append(closers, c)
	}
	host := hostNetwork()
	n = network{
		listenTCP: func(a netip.AddrPort) (net.Listener, error) {
			l, err := host.listenTCP(a)
			if err == nil {
				keep(l.Close)
			}
			return l, err
		},
		listenUDP: func(a netip.AddrPort) (*net.UDPConn, error) {
			u, err := host.listenUDP(a)
			if err == nil {
				keep(u.Close)
			}
			return u, err
		},
		dial: func(ctx context.Context, from netip.Addr, to string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if gone {
				return nil, errors.New("unplugged")
			}
			return host.dial(ctx, from, to)
		},
	}
	return n, func() {
		mu.Lock()
		defer mu.Unlock()
		gone = true
		for _, c := range closers {
			c()
		}
	}
}

// inNamespace opens sockets in a namespace.
func inNamespace(ns *netnstest.NS) *network {
	host := hostNetwork()
	return &network{
		listenTCP: func(a netip.AddrPort) (l net.Listener, err error) {
			ns.Do(func() error { l, err = host.listenTCP(a); return nil })
			return l, err
		},
		listenUDP: func(a netip.AddrPort) (u *net.UDPConn, err error) {
			ns.Do(func() error { u, err = host.listenUDP(a); return nil })
			return u, err
		},
		dial: func(ctx context.Context, from netip.Addr, to string) (c net.Conn, err error) {
			ns.Do(func() error { c, err = host.dial(ctx, from, to); return nil })
			return c, err
		},
	}
}

// site is three members in namespaces of their own, each behind a router by a link of its own.
type site struct {
	t      *testing.T
	router *netnstest.NS
	links  []string
	peers  []*peer
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	s := &site{t: t, router: netnstest.New(t)}
	s.router.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	addrs := addrPorts("198.51.100.1:7946", "198.51.100.3:7946", "198.51.100.5:7946")
	for i, a := range addrs {
		ns, link := netnstest.New(t), "to-"+name[i:i+1]
		gw := a.Addr().Prev()
		netnstest.Veth(t, s.router, link, netip.PrefixFrom(gw, 31), ns, "eth1", netip.PrefixFrom(a.Addr(), 31))
		_, all, err := net.ParseCIDR("0.0.0.0/0")
		check(t, err)
		check(t, ns.Link.RouteReplace(&netlink.Route{Dst: all, Gw: gw.AsSlice()}))
		s.links = append(s.links, link)
		// only the first one's address is in join: the others are found again because they were known
		s.peers = append(s.peers, startPeer(t, Config{a, testKey, addrs[:1], name[i : i+1]}, Options{network: inNamespace(ns)}))
	}
	return s
}

func (s *site) setLink(i int, set func(netlink.Link) error) {
	s.t.Helper()
	link, err := s.router.Link.LinkByName(s.links[i])
	check(s.t, err)
	check(s.t, set(link))
}

// Both sides of a partition go on writing, and hold the same once it has healed: by rejoining alone, for whole maps are
// not exchanged in between, and memberlist has long forgotten the others.
func TestPartitionHeals(t *testing.T) {
	s := newSite(t, "abc")
	a, b, c := s.peers[0], s.peers[1], s.peers[2]
	check(t, a.data.Set("before", []byte("1")))
	check(t, a.data.Set("gone", []byte("1")))
	eventually(t, "all are one", func() bool {
		return same(a, b, c) && a.sees() == "b alive, c alive" && b.sees() == "a alive, c alive" && c.sees() == "a alive, b alive"
	})
	s.setLink(2, s.router.Link.LinkSetDown)
	eventually(t, "each side sees the other lost", func() bool {
		return a.sees() == "b alive, c lost" && b.sees() == "a alive, c lost" && c.sees() == "a lost, b lost"
	})
	check(t, a.data.Set("both", []byte("a's")))
	check(t, b.data.Set("before", []byte("b's")))
	check(t, c.data.Set("both", []byte("c's"))) // the last of the two
	check(t, c.data.Set("only-c", []byte("1")))
	c.data.Delete("gone")
	eventually(t, "the larger side goes on", func() bool { return same(a, b) && a.has("before", "b's") && b.has("both", "a's") })
	if c.has("before", "b's") || !c.has("both", "c's") || same(a, c) {
		t.Error("there is no partition")
	}
	failed := func() float64 { return testutil.ToFloat64(c.counters.joins) }
	tried := failed()
	eventually(t, "c has tried again and again", func() bool { return failed() >= tried+4 })

	s.setLink(2, s.router.Link.LinkSetUp)
	eventually(t, "all see all again", func() bool {
		return a.sees() == "b alive, c alive" && b.sees() == "a alive, c alive" && c.sees() == "a alive, b alive"
	})
	eventually(t, "all hold the same", func() bool { return same(a, b, c) })
	for key, want := range map[string]string{"both": "c's", "before": "b's", "only-c": "1"} {
		if !a.has(key, want) {
			v, _ := a.data.Get(key)
			t.Errorf("%s is %q, want %q", key, v, want)
		}
	}
	if _, ok := a.data.Get("gone"); ok {
		t.Error("what was deleted is back")
	}
	if n := a.log.count("member lost"); n == 0 {
		t.Error("a did not say that c was lost")
	}
}

// A peer that has the key, and sends what makes memberlist fall over, does not reach it.
func TestEmptyAndPaddedMessages(t *testing.T) {
	p := startPeer(t, Config{porttest.Free(t, "127.0.0.2"), testKey, nil, "a"}, Options{})
	eventually(t, "a runs", func() bool { return len(p.Members()) == 1 })
	label := []byte{mlLabelled, 2, 'l', 'b'}
	head := []byte{mlEncrypted, 0, 0, 0, mlOverhead}
	c := dialFrom(t, "127.0.0.3", p.cfg.Listen)
	_, err := c.Write(append(append(label, head...), seal(t, mlVersion, nil, append(head, "lb"...))...))
	check(t, err)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("an empty message was answered")
	}
	u, err := net.Dial("udp", p.cfg.Listen.String())
	check(t, err)
	defer u.Close()
	_, err = u.Write(append(label, seal(t, 0, bytes.Repeat([]byte{255}, 16), []byte("lb"))...)) // padding longer than the message
	check(t, err)
	eventually(t, "both are refused", func() bool { return p.rejected(reasonFormat) == 2 })
}

// seal encrypts as memberlist does.
func seal(t *testing.T, version byte, plain, data []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(testKey)
	check(t, err)
	gcm, err := cipher.NewGCM(block)
	check(t, err)
	b := append([]byte{version}, make([]byte, gcm.NonceSize())...)
	binary.BigEndian.PutUint32(b[1:], 7)
	return gcm.Seal(b, b[1:], plain, data)
}
