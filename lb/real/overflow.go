package real

import (
	"net/netip"
	"slices"

	"anycastle/bpf"
	"anycastle/lb/agent"
	"anycastle/lb/real/sockets"

	"golang.org/x/sys/unix"
)

// overflows adds up, by port of a VIP, the connections that found a full queue at their listener, and the datagrams that
// found no room.
//
// What the kernel says of one TCP listener is more than that: it counts every segment that it drops there, such as the reset
// by which a client answers another real that it had given up, and that comes here since the other one is out. What it says
// of all listeners of the machine is exact. So no more is believed of a listener than the machine's count has grown by, and
// those that are full at the moment come first.
type overflows struct {
	drops map[uint64]uint32 // of each listener, by its cookie; nil before the first look
	all   uint64            // of the machine
	spare uint64            // of it, not found at any listener yet: the one may be counted before the other
	ports map[bpf.Endpoint]uint64
}

// add takes a look at listeners, and at the machine's count, read after them. What was dropped before the first look counts
// for nothing.
func (o *overflows) add(vips []netip.Addr, listeners []sockets.Listener, all uint64) {
	first := o.drops == nil
	grown := all - o.all
	if first {
		grown = 0
	}
	left := grown + o.spare
	drops := make(map[uint64]uint32, len(listeners))
	listeners = slices.Clone(listeners)
	slices.SortStableFunc(listeners, func(a, b sockets.Listener) int {
		switch {
		case a.Full() == b.Full():
			return 0
		case a.Full():
			return -1
		}
		return 1
	})
	for _, l := range listeners {
		before, seen := o.drops[l.Cookie]
		if first && !seen {
			before = l.Drops
		}
		drops[l.Cookie] = l.Drops
		n := uint64(l.Drops - before) // wraps as the kernel's count does
		if l.Protocol == unix.IPPROTO_TCP {
			n = min(n, left)
			left -= n
		}
		if n > 0 {
			o.count(vips, l, n)
		}
	}
	o.drops, o.all, o.spare = drops, all, min(left, grown)
}

func (o *overflows) count(vips []netip.Addr, l sockets.Listener, n uint64) {
	if o.ports == nil {
		o.ports = map[bpf.Endpoint]uint64{}
	}
	for _, vip := range vips {
		e := bpf.Endpoint{VIP: netip.AddrPortFrom(vip, l.Local.Port()), Protocol: l.Protocol}
		if _, ok := o.ports[e]; l.Covers(vip) && (ok || len(o.ports) < 4*agent.MaxPorts) {
			o.ports[e] += n
		}
	}
}
