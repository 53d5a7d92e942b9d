package real

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vipLabel marks the addresses on lo that this role has added, so that it removes no others, also after a kill.
const vipLabel = "lo:anycastle"

// ownAddresses gives what load balancers may send to.
func (r *Role) ownAddresses() ([]netip.Addr, error) {
	if len(r.cfg.Addresses) > 0 {
		return r.cfg.Addresses, nil
	}
	var own []netip.Addr
	for _, name := range r.cfg.Uplinks {
		link, err := netlink.LinkByName(name)
		if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
			return nil, fmt.Errorf("uplink %s: no such interface here; `ip link` lists those there are", name)
		}
		if err != nil {
			return nil, fmt.Errorf("find uplink %s: %w", name, err)
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", name, err)
		}
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && !slices.Contains(r.cfg.VIPs, ip) {
				own = append(own, ip)
			}
		}
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("no IPv4 address on uplinks %s; add one there, or set real.addresses",
			strings.Join(r.cfg.Uplinks, ", "))
	}
	return own, nil
}

// setUpUplink keeps the VIPs out of ARP on the uplink, and lets decapsulated packets in, whose sources a strict reverse
// path filter would expect on another interface.
func (r *Role) setUpUplink(name string) error {
	// 1: answer ARP only for addresses of the interface that is asked on. 2: ask with an address of the interface.
	if err := r.raise(name, "arp_ignore", 1); err != nil {
		return err
	}
	if err := r.raise(name, "arp_announce", 2); err != nil {
		return err
	}
	const strict, loose = 1, 2
	all, err := readSysctl("all", "rp_filter")
	if err != nil {
		return err
	}
	one, err := readSysctl(name, "rp_filter")
	if err != nil {
		return err
	}
	if max(all, one) == strict { // the kernel takes the larger of the two
		return r.raise(name, "rp_filter", loose)
	}
	return nil
}

func sysctlPath(iface, key string) string {
	return filepath.Join("/proc/sys/net/ipv4/conf", iface, key)
}

func readSysctl(iface, key string) (int, error) {
	text, err := os.ReadFile(sysctlPath(iface, key))
	if err != nil {
		return 0, fmt.Errorf("read sysctl: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// raise sets a sysctl of an interface to at least value.
func (r *Role) raise(iface, key string, value int) error {
	old, err := readSysctl(iface, key)
	if err != nil || old >= value {
		return err
	}
	if err := os.WriteFile(sysctlPath(iface, key), []byte(strconv.Itoa(value)), 0); err != nil {
		return fmt.Errorf("set sysctl (run as root): %w", err)
	}
	r.log.Info("sysctl set", "uplink", iface, "key", key, "old", old, "new", value)
	return nil
}

// loopbackVIPs lists the IPv4 addresses of lo.
func loopbackVIPs() (netlink.Link, []netlink.Addr, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, nil, fmt.Errorf("find lo: %w", err)
	}
	addrs, err := netlink.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses of lo: %w", err)
	}
	return lo, addrs, nil
}

// addVIPs puts each VIP on lo and removes those that an earlier process put there and that are no longer wanted. Scope
// host keeps the kernel from choosing a VIP as the source of the server's own connections.
func (r *Role) addVIPs() error {
	lo, addrs, err := loopbackVIPs()
	if err != nil {
		return err
	}
	present := map[netip.Addr]bool{}
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP.To4())
		present[ip] = true
		if a.Label == vipLabel && !slices.Contains(r.cfg.VIPs, ip) {
			if err := r.removeVIP(lo, a, "not in the config"); err != nil {
				return err
			}
		}
	}
	for _, vip := range r.cfg.VIPs {
		if present[vip] {
			continue
		}
		a := netlink.Addr{
			IPNet: &net.IPNet{IP: vip.AsSlice(), Mask: net.CIDRMask(32, 32)},
			Scope: unix.RT_SCOPE_HOST,
			Label: vipLabel,
		}
		if err := netlink.AddrAdd(lo, &a); err != nil {
			return fmt.Errorf("add VIP %v to lo (run as root): %w", vip, err)
		}
		r.log.Info("vip changed", "vip", vip, "old", "absent", "new", "on lo", "cause", "in the config")
	}
	return nil
}

// removeVIPs removes every VIP that this role, or an earlier process of it, has added.
func (r *Role) removeVIPs() error {
	lo, addrs, err := loopbackVIPs()
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range addrs {
		if a.Label == vipLabel {
			errs = append(errs, r.removeVIP(lo, a, "stopping"))
		}
	}
	return errors.Join(errs...)
}

func (r *Role) removeVIP(lo netlink.Link, a netlink.Addr, cause string) error {
	if err := netlink.AddrDel(lo, &a); err != nil {
		return fmt.Errorf("remove VIP %v from lo: %w", a.IP, err)
	}
	r.log.Info("vip changed", "vip", a.IP, "old", "on lo", "new", "absent", "cause", cause)
	return nil
}
