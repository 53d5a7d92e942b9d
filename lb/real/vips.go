package real

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// vipOrigin marks the addresses that this role has added, so that it removes no others, also after a kill: who has
	// added an address is kept with it by the kernel (5.18 and later; `ip address` shows it as proto). IPv6 addresses
	// have no label, and their flags and lifetimes could be an administrator's, too.
	vipOrigin = 0xac
	// vipLabel shows the same to whoever reads `ip address` for IPv4.
	vipLabel = "lo:anycastle"

	routePatience = 5 * time.Second

	ifaProto = 11         // IFA_PROTO, which package unix lacks
	forever  = 0xffffffff // INFINITY_LIFE_TIME
)

// loAddr is an address on lo.
type loAddr struct {
	netip.Prefix
	ours bool // this role or an earlier process of it has added it
}

// loopback lists the addresses of lo. The library's own list leaves out who has added one.
func loopback() (index int, addrs []loAddr, err error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return 0, nil, fmt.Errorf("find lo: %w", err)
	}
	index = lo.Attrs().Index
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return 0, nil, fmt.Errorf("list addresses of lo: %w", err)
	}
	for _, m := range msgs {
		if on, a, ok := parseAddr(m); ok && on == index {
			addrs = append(addrs, a)
		}
	}
	return index, addrs, nil
}

// parseAddr reads an RTM_NEWADDR message.
func parseAddr(msg []byte) (index int, a loAddr, ok bool) {
	if len(msg) < unix.SizeofIfAddrmsg {
		return 0, a, false
	}
	bits, index := int(msg[1]), int(binary.NativeEndian.Uint32(msg[4:]))
	var addr, local []byte
	label := ""
	for rest := msg[unix.SizeofIfAddrmsg:]; len(rest) >= unix.SizeofRtAttr; {
		size, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		if size < unix.SizeofRtAttr || size > len(rest) {
			return 0, a, false
		}
		switch value := rest[unix.SizeofRtAttr:size]; kind {
		case unix.IFA_ADDRESS:
			addr = value
		case unix.IFA_LOCAL: // differs from IFA_ADDRESS on a point-to-point link
			local = value
		case unix.IFA_LABEL:
			label = unix.ByteSliceToString(value)
		case ifaProto:
			a.ours = len(value) == 1 && value[0] == vipOrigin
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	if local != nil {
		addr = local
	}
	ip, ok := netip.AddrFromSlice(addr)
	a.Prefix = netip.PrefixFrom(ip, bits)
	a.ours = a.ours || label == vipLabel
	return index, a, ok && a.IsValid()
}

// addVIPs puts each VIP on lo and removes those that an earlier process put there and that are no longer wanted.
func (r *Role) addVIPs() error {
	lo, addrs, err := loopback()
	if err != nil {
		return err
	}
	present := map[netip.Addr]bool{}
	for _, a := range addrs {
		present[a.Addr()] = true
		if a.ours && !slices.Contains(r.cfg.VIPs, a.Addr()) {
			if err := r.removeVIP(lo, a, "not in the config"); err != nil {
				return err
			}
		}
	}
	for _, vip := range r.cfg.VIPs {
		if present[vip] {
			continue
		}
		err := addVIP(lo, vip)
		if errors.Is(err, unix.EACCES) && vip.Is6() {
			return fmt.Errorf("add VIP %v to lo: IPv6 is switched off there; `sysctl -w net.ipv6.conf.lo.disable_ipv6=0` switches it on", vip)
		}
		if err != nil {
			return fmt.Errorf("add VIP %v to lo (run as root): %w", vip, err)
		}
		r.log.Info("vip changed", "vip", vip, "old", "absent", "new", "on lo", "cause", "in the config")
	}
	return r.awaitRoutes()
}

// awaitRoutes waits until the stack takes packets for the VIPs: the kernel makes the route to an IPv6 address a little
// after the address, and until then it would answer that there is none.
func (r *Role) awaitRoutes() error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(routePatience)
	for _, vip := range r.cfg.VIPs {
		for {
			routes, err := netlink.RouteGet(vip.AsSlice())
			if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("VIP %v is on lo, and the kernel has no local route to it after %v; `ip route show table local` shows those there are",
					vip, routePatience)
			}
			<-tick.C
		}
	}
	return nil
}

// addVIP adds an address to lo in a way that keeps the kernel from choosing it as the source of the server's own
// connections: scope host says so in IPv4; in IPv6, where the scope follows from the address, one whose preferred
// lifetime is over is the last choice (RFC 6724, section 5, rule 3). It serves clients all the same.
func addVIP(lo int, vip netip.Addr) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	addAddr(req, lo, netip.PrefixFrom(vip, vip.BitLen()))
	req.AddData(nl.NewRtAttr(ifaProto, []byte{vipOrigin}))
	if vip.Is4() {
		req.AddData(nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(vipLabel)))
	} else {
		// every real has the address: detection would find a duplicate and take it away
		flags := binary.NativeEndian.AppendUint32(nil, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)
		req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, flags))
		life := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Prefered: 0, Valid: forever}}
		req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, life.Serialize()))
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// addAddr makes a request about an address of lo.
func addAddr(req *nl.NetlinkRequest, lo int, p netip.Prefix) {
	family := unix.AF_INET6
	if p.Addr().Is4() {
		family = unix.AF_INET
	}
	msg := nl.NewIfAddrmsg(family)
	msg.Index, msg.Prefixlen, msg.Scope = uint32(lo), uint8(p.Bits()), unix.RT_SCOPE_HOST
	req.AddData(msg)
	for _, kind := range []int{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		req.AddData(nl.NewRtAttr(kind, p.Addr().AsSlice()))
	}
}

// removeVIPs removes every VIP that this role, or an earlier process of it, has added.
func (r *Role) removeVIPs() error {
	lo, addrs, err := loopback()
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range addrs {
		if a.ours {
			errs = append(errs, r.removeVIP(lo, a, "stopping"))
		}
	}
	return errors.Join(errs...)
}

func (r *Role) removeVIP(lo int, a loAddr, cause string) error {
	req := nl.NewNetlinkRequest(unix.RTM_DELADDR, unix.NLM_F_ACK)
	addAddr(req, lo, a.Prefix)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove VIP %v from lo: %w", a.Addr(), err)
	}
	r.log.Info("vip changed", "vip", a.Addr(), "old", "on lo", "new", "absent", "cause", cause)
	return nil
}
