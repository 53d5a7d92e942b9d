package real

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

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
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", name, err)
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			switch ip = ip.Unmap(); {
			case !ok || ip.Is6() && ip.IsLinkLocalUnicast(): // no balancer is told to send there
			case slices.Contains(r.cfg.VIPs, ip):
				r.log.Warn("a vip is on an uplink, where the server claims it for itself; remove it there",
					"vip", ip, "uplink", name)
			default:
				own = append(own, ip)
			}
		}
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("no address on uplinks %s; add one there, or set real.addresses",
			strings.Join(r.cfg.Uplinks, ", "))
	}
	return own, nil
}

// setUpUplink keeps the VIPs out of ARP on the uplink, and lets decapsulated packets in, whose sources a strict reverse
// path filter would expect on another interface. IPv6 needs neither: neighbour discovery answers only for addresses of
// the interface that is asked on, and there is no such filter.
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
