// Package netconf gives a node the network that its file asks for in the `net:` section: addresses, routes, forwarding.
//
// It does what containerlab, or the lab's own runner, leaves to the node: both make the links and nothing else. It
// speaks netlink and writes /proc/sys, so the node needs no `ip` command. `anycastle node` calls Apply once, before any
// role starts.
//
// Apply adds and changes; it never removes what is not in the file, such as the management address that a container
// engine set. IPv4 only: Validate refuses IPv6 in this version. Nothing has to be closed.
package netconf
