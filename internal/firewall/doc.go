// Package firewall keeps the layers of a site apart: it lets a router pass on only what its rules allow.
//
// Zones are sets of a router's interfaces. A rule lets one kind of packet pass from zones to zones, and the answers back.
// Everything else that is passed on is dropped and counted by its two zones, within one zone too. Nothing is passed on by the
// interface that it came in by when its zone has no other, whatever the rules say. What the router itself sends and takes is
// not looked at.
//
// The rules keep no state, for the answer to a packet may come by another router: a TCP segment passes back when it
// comes from the port of the rule and does not begin a connection, a UDP packet when it comes from that port. ICMP errors
// pass everywhere, or path MTU discovery would break. Of a packet in fragments only the first has ports; the others are
// dropped where the rule names some.
//
// internal/netconf owns the config key and calls Apply, which keeps the rules in the nftables tables
// anycastle_fw and anycastle_fw2 in turn: the new one takes over from the old without a gap. Read tells what the kernel has counted. Nothing has to be closed.
package firewall
