// Package netnstest gives a test network namespaces of its own, joined by veth pairs.
//
// Nothing touches the namespace of the machine: a pair is made inside one namespace with its far end in the other.
// Everything goes away with the test. A test that needs root calls Root (New does): without the privilege it is
// skipped on a developer's machine and fails in CI, so that no green run hides a missing privilege.
package netnstest

import (
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Root skips the test without root, and fails it instead when CI or ANYCASTLE_TEST_ROOT is set.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" || os.Getenv("ANYCASTLE_TEST_ROOT") != "" {
		t.Fatal("needs root; in CI a missing privilege is a failure")
	}
	t.Skip("needs root")
}

// NS is one network namespace. Its loopback is up.
type NS struct {
	t      testing.TB
	handle netns.NsHandle
	Link   *netlink.Handle // for netlink requests inside the namespace
}

// New makes an anonymous namespace that is closed with the test.
func New(t testing.TB) *NS {
	t.Helper()
	Root(t)
	ns := &NS{t: t}
	onThread(t, func() error {
		var err error
		ns.handle, err = netns.New()
		return err
	})
	t.Cleanup(func() { ns.handle.Close() })
	var err error
	if ns.Link, err = netlink.NewHandleAt(ns.handle); err != nil {
		t.Fatalf("open netlink in the namespace: %v", err)
	}
	t.Cleanup(ns.Link.Close)
	lo, err := ns.Link.LinkByName("lo")
	if err == nil {
		err = ns.Link.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatalf("bring up lo: %v", err)
	}
	return ns
}

// FD gives the namespace's file descriptor, valid until the test ends.
func (ns *NS) FD() int { return int(ns.handle) }

// Do runs f on a thread inside the namespace. Sockets that f opens stay in it; goroutines that f starts do not, so
// open sockets in f and use them anywhere.
func (ns *NS) Do(f func() error) {
	ns.t.Helper()
	onThread(ns.t, func() error {
		if err := netns.Set(ns.handle); err != nil {
			return err
		}
		return f()
	})
}

// onThread runs f on a thread that ends with it, so that no other goroutine ever meets its namespace.
func onThread(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Veth joins two namespaces by a pair whose ends have the given names and addresses and are up. As in the lab,
// transmit checksum offload is off (XDP sees finished packets) and GRO is on (XDP may redirect into the pair).
func Veth(t testing.TB, a *NS, aName string, aAddr netip.Prefix, b *NS, bName string, bAddr netip.Prefix) {
	t.Helper()
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: aName},
		PeerName:      bName,
		PeerNamespace: netlink.NsFd(b.FD()),
	}
	if err := a.Link.LinkAdd(pair); err != nil {
		t.Fatalf("make veth %s-%s: %v", aName, bName, err)
	}
	a.setUp(aName, aAddr)
	b.setUp(bName, bAddr)
}

func (ns *NS) setUp(name string, addr netip.Prefix) {
	ns.t.Helper()
	link, err := ns.Link.LinkByName(name)
	if err != nil {
		ns.t.Fatalf("find %s: %v", name, err)
	}
	if addr.IsValid() {
		a, err := netlink.ParseAddr(addr.String())
		if err != nil {
			ns.t.Fatal(err)
		}
		if addr.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // usable at once; there are no duplicates here
		}
		if err := ns.Link.AddrAdd(link, a); err != nil {
			ns.t.Fatalf("add %v to %s: %v", addr, name, err)
		}
	}
	if err := ns.Link.LinkSetUp(link); err != nil {
		ns.t.Fatalf("bring up %s: %v", name, err)
	}
	// after the link is up: only then does switching GRO on let the far end redirect into the pair
	ns.Do(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		return tool.Change(name, map[string]bool{"tx-checksum-ip-generic": false, "rx-gro": true})
	})
}
