package rhi

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// links hears of every change of a link, an address, a route or a nexthop: the kernel drops routes without a word when
// their link goes down, and they have to be set again as soon as it is back.
type links struct{ socket *nl.NetlinkSocket }

// openLinks works on the network namespace of the calling thread.
func openLinks() (*links, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_NEXTHOP)
	if err != nil {
		return nil, fmt.Errorf("subscribe to links: %w", err)
	}
	return &links{s}, nil
}

func (l *links) close() { l.socket.Close() }

// watch calls onChange after each change until ctx is done, and closes the socket then.
func (l *links) watch(ctx context.Context, onChange func()) error {
	defer context.AfterFunc(ctx, l.close)()
	for {
		_, _, err := l.socket.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR): // messages were lost: a change as well
			return fmt.Errorf("watch links: %w", err)
		}
		onChange()
	}
}

// linkNames looks up the names of links, each once.
type linkNames struct {
	nl    *netlink.Handle
	known map[int]string
}

// name gives that of a link; the number of one that is gone.
func (l *linkNames) name(ifindex int) string {
	if name, ok := l.known[ifindex]; ok {
		return name
	}
	if l.known == nil {
		l.known = map[int]string{}
	}
	l.known[ifindex] = strconv.Itoa(ifindex)
	if link, err := l.nl.LinkByIndex(ifindex); err == nil {
		l.known[ifindex] = link.Attrs().Name
	}
	return l.known[ifindex]
}
