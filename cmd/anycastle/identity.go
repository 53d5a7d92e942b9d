package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anycastle/rhi"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// announceTime is how long the speaker may take for a change of what is announced.
const announceTime = 2 * time.Second

// speaker announces prefixes; rhi.Role is one.
type speaker interface {
	SetAnnouncements(ctx context.Context, list []rhi.Announcement) error
}

// identity gives the active store of a LUN the LUN's addresses: on lo, and announced where the node has a speaker.
type identity struct {
	log     *slog.Logger
	role    *rhi.Role // the speaker, to be run; nil: none
	speaker speaker   // nil: none
	lo      addresses

	mu    sync.Mutex
	taken map[string]possession // by LUN
}

// possession is what a LUN has.
type possession struct {
	addrs []netip.Addr
	term  uint64
}

// addresses are those of an interface.
type addresses interface {
	Add(a netip.Addr) error // nil also if it is there
	Remove(a netip.Addr) error
}

func newIdentity(s speaker, log *slog.Logger) *identity {
	return &identity{log: log, speaker: s, lo: loopback{}, taken: map[string]possession{}}
}

// identityOf gives what takes the addresses of the LUNs that a store has replicas of; nil for any other role. What a process
// before this one has left is removed: nobody is active yet.
func identityOf(node *nodeFile, role string, log *slog.Logger, reg prometheus.Registerer) *identity {
	if role != "store" || node.Mail.Store.Node == "" {
		return nil
	}
	var i *identity
	if node.host() == "store" {
		speaking := rhi.New(*node.RHI, rhi.Options{Log: log, Registry: reg})
		i = newIdentity(speaking, log)
		i.role = speaking
	} else {
		i = newIdentity(nil, log)
	}
	if err := i.Clean(node.Mail.ServiceAddrs(node.Mail.Store.Node)); err != nil {
		log.Warn("addresses of LUNs are left on this machine", "err", err)
	}
	return i
}

// Take implements mailroles.Identity. The address comes first: what is sent here is answered from the first packet on.
func (i *identity) Take(lun string, addrs []netip.Addr, term uint64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range addrs {
		if err := i.lo.Add(a); err != nil {
			return fmt.Errorf("take %v for %s: %w", a, lun, err)
		}
	}
	i.taken[lun] = possession{slices.Clone(addrs), term}
	if err := i.announce(); err != nil {
		return errors.Join(fmt.Errorf("announce %s: %w", lun, err), i.drop(lun))
	}
	i.log.Info("identity taken", "lun", lun, "addresses", addrs, "term", term)
	return nil
}

// Drop implements mailroles.Identity. The announcement goes first: routers lead elsewhere before nobody answers here.
func (i *identity) Drop(lun string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.taken[lun]; !ok {
		return nil
	}
	err := i.drop(lun)
	i.log.Info("identity dropped", "lun", lun, "err", err)
	return err
}

// Clean removes addresses that a process before this one has left.
func (i *identity) Clean(addrs []netip.Addr) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	var errs []error
	for _, a := range addrs {
		errs = append(errs, i.lo.Remove(a))
	}
	return errors.Join(errs...)
}

// drop is called with mu held.
func (i *identity) drop(lun string) error {
	had := i.taken[lun]
	delete(i.taken, lun)
	err := i.announce()
	for _, a := range had.addrs {
		if !i.has(a) {
			err = errors.Join(err, i.lo.Remove(a))
		}
	}
	return err
}

func (i *identity) has(a netip.Addr) bool {
	for _, p := range i.taken {
		if slices.Contains(p.addrs, a) {
			return true
		}
	}
	return false
}

// announce has the speaker announce what is taken, and nothing else.
func (i *identity) announce() error {
	if i.speaker == nil {
		return nil
	}
	var list []rhi.Announcement
	for lun, p := range i.taken {
		for _, a := range p.addrs {
			prefix := netip.PrefixFrom(a, a.BitLen())
			if a.IsLoopback() || slices.ContainsFunc(list, func(other rhi.Announcement) bool { return other.Prefix == prefix }) {
				continue
			}
			list = append(list, rhi.Announcement{Prefix: prefix, MED: medOf(p.term), Why: "store of " + lun + " is active here", Decided: time.Now()})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), announceTime)
	defer cancel()
	return i.speaker.SetAnnouncements(ctx, list)
}

// medOf gives the MED of a term: lower ones win, so a newer active store wins over one that cannot withdraw any more.
func medOf(term uint64) *uint32 {
	med := uint32(1<<31) - uint32(min(term, 1<<31-1))
	return &med
}

// loopback is the addresses of lo.
type loopback struct{}

// Add implements addresses.
func (loopback) Add(a netip.Addr) error {
	if a.IsLoopback() { // there anyway
		return nil
	}
	lo, there, err := onLo(a)
	if err != nil || there {
		return err
	}
	addr := &netlink.Addr{IPNet: hostNet(a)}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrReplace(lo, addr)
}

// Remove implements addresses.
func (loopback) Remove(a netip.Addr) error {
	if a.IsLoopback() {
		return nil
	}
	lo, there, err := onLo(a)
	if err != nil || !there {
		return err
	}
	if err := netlink.AddrDel(lo, &netlink.Addr{IPNet: hostNet(a)}); err != nil {
		return fmt.Errorf("remove %v from lo: %w", a, err)
	}
	return nil
}

// onLo says whether lo has an address, which everybody may ask.
func onLo(a netip.Addr) (lo netlink.Link, there bool, err error) {
	if lo, err = netlink.LinkByName("lo"); err != nil {
		return nil, false, fmt.Errorf("find lo: %w", err)
	}
	list, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
	if err != nil {
		return nil, false, fmt.Errorf("list addresses of lo: %w", err)
	}
	for _, have := range list {
		if ip, ok := netip.AddrFromSlice(have.IP); ok && ip.Unmap() == a {
			return lo, true, nil
		}
	}
	return lo, false, nil
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
