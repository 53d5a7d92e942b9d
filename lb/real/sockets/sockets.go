package sockets

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// States of TCP in the kernel, which UDP borrows from: a UDP socket without a peer is in stateClose.
const (
	stateEstablished = 1
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateClose       = 7
	stateCloseWait   = 8
	stateLastAck     = 9
	stateListen      = 10
	stateClosing     = 11
)

// inFlow are the states of a TCP socket that still has something to send, to receive or to have acknowledged.
const inFlow = 1<<stateEstablished | 1<<stateFinWait1 | 1<<stateFinWait2 | 1<<stateCloseWait | 1<<stateLastAck | 1<<stateClosing

// Listener is a socket that takes new flows: a listening TCP socket, or a UDP socket without a peer.
type Listener struct {
	Protocol uint8
	Local    netip.AddrPort // an unspecified address: all of its family
	OnlyIPv6 bool           // of the IPv6 addresses, it takes IPv6 alone
	Cookie   uint64         // tells it from every other socket since the machine's start
	Queue    uint32         // TCP: connections that wait to be accepted; UDP: bytes that wait to be read
	Backlog  uint32         // TCP: how many may wait, less one; UDP: 0
	Drops    uint32         // TCP: connections, UDP: datagrams that were dropped since the socket was opened; may wrap
}

// Covers says whether the socket takes what comes for an address.
func (l Listener) Covers(vip netip.Addr) bool {
	a := l.Local.Addr()
	switch {
	case a == vip:
		return true
	case !a.IsUnspecified():
		return false
	case a.Is4():
		return vip.Is4()
	}
	return vip.Is6() || !l.OnlyIPv6
}

// Full says whether the next connection that comes will be dropped.
func (l Listener) Full() bool { return l.Protocol == unix.IPPROTO_TCP && l.Queue > l.Backlog }

// Flow is a connection of a client to a VIP, or a UDP socket that is connected to one.
type Flow struct {
	Protocol uint8
	VIP      netip.AddrPort
	Client   netip.AddrPort
}

// Reader asks the kernel about the sockets of some VIPs.
type Reader struct {
	vips   map[netip.Addr]bool
	filter []byte // for the kernel; nil: everything is wanted
	buf    []byte
}

// New makes a Reader for VIPs, none of them IPv4 in the IPv6 form.
func New(vips []netip.Addr) *Reader {
	r := &Reader{vips: map[netip.Addr]bool{}, buf: make([]byte, 64<<10)}
	for _, v := range vips {
		r.vips[v] = true
	}
	if len(vips) <= maxFiltered {
		r.filter = localFilter(vips)
	}
	return r
}

var families = []uint8{unix.AF_INET, unix.AF_INET6}

// Listeners lists the sockets that take new flows for any of the VIPs.
func (r *Reader) Listeners() ([]Listener, error) {
	var list []Listener
	for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		state := uint32(1 << stateListen)
		if proto == unix.IPPROTO_UDP {
			state = 1 << stateClose
		}
		for _, family := range families {
			q := query{family: family, proto: proto, states: state, memory: true}
			err := r.dump(q, func(s socket) error {
				l := Listener{Protocol: proto, Local: s.local, OnlyIPv6: s.onlyIPv6, Cookie: s.cookie, Queue: s.rqueue, Drops: s.drops}
				if proto == unix.IPPROTO_TCP {
					l.Backlog = s.wqueue
				}
				if r.coversAny(l) {
					list = append(list, l)
				}
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("list listening sockets: %w", err)
			}
		}
	}
	return list, nil
}

func (r *Reader) coversAny(l Listener) bool {
	if l.Local.Port() == 0 { // not bound
		return false
	}
	if !l.Local.Addr().IsUnspecified() {
		return r.vips[l.Local.Addr()]
	}
	for v := range r.vips {
		if l.Covers(v) {
			return true
		}
	}
	return false
}

// Flows calls visit for each flow of the VIPs, in no order, and gives the first error that it returns. A TCP connection is
// a flow until the server has no part in it any more: what only waits for a client that does not close its side is none.
func (r *Reader) Flows(visit func(Flow) error) error {
	for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		states := uint32(inFlow)
		if proto == unix.IPPROTO_UDP {
			states = 1 << stateEstablished
		}
		for _, family := range families {
			err := r.dump(query{family: family, proto: proto, states: states, filter: r.filter}, func(s socket) error {
				if s.state == stateFinWait2 && s.inode == 0 || !r.vips[s.local.Addr()] {
					return nil
				}
				return visit(Flow{Protocol: proto, VIP: s.local, Client: s.remote})
			})
			if err != nil {
				return fmt.Errorf("list flows: %w", err)
			}
		}
	}
	return nil
}

// Endpoint is a port of a VIP.
type Endpoint struct {
	VIP      netip.AddrPort
	Protocol uint8
}

// Count counts the flows of each endpoint.
func (r *Reader) Count() (map[Endpoint]int, error) {
	n := map[Endpoint]int{}
	err := r.Flows(func(f Flow) error {
		n[Endpoint{f.VIP, f.Protocol}]++
		return nil
	})
	return n, err
}
