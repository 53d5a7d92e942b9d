// Package bfd is Bidirectional Forwarding Detection: it notices within a fraction of a second that the way to a peer no
// longer carries packets, or that it carries them in one direction only.
//
// A Speaker keeps the sessions that SetSessions names and tells of each change of their states. It decides nothing about
// routes: whoever embeds it does, and Change.PeerLost says when there is reason to.
//
// What is spoken:
//   - asynchronous mode (RFC 5880) over IPv4 and IPv6, link-local included, on one link (RFC 5881, UDP port 3784) or between
//     loopback addresses (RFC 5883, port 4784). Packets of one link are sent with TTL 255, and those that arrive with less are
//     dropped (RFC 5881 5); over several hops the least TTL is configured.
//   - packets are checked in the order of RFC 5880 6.8.6, and each that is dropped is counted under its reason.
//   - Poll and Final (6.5), jitter (6.8.7), at most one packet a second while a session is not up (6.8.3), a peer's demand mode
//     and a peer that wants no packets at all.
//   - meticulous keyed SHA1 authentication (6.7.4).
//   - AdminDown in both directions (6.8.16): it says nothing about the way to the peer, so nothing should be withdrawn for it
//     (RFC 5882 4.2). A session that is removed says AdminDown for three packets, and on its way out Run says it once more
//     after a detection time.
//   - any interval of 10 ms or more, to the microsecond, so all of the common ones of RFC 7419 but 3.3 ms.
//
// What is not: the echo function (its interval is said to be 0), asking for demand mode, point to multipoint. The C bit is 0:
// detection shares the fate of its process (RFC 5882 4.3). A BGP speaker that ends a session for it says so with Cease
// subcode 10 (RFC 9384).
//
// A stall of our own is no evidence of a dead peer. Before a session is given up, what waits in the sockets is read; and if
// the clockwork itself ran late by more than an interval of the session, two intervals more are granted and the stall is counted.
//
// session is the protocol as a pure state machine: packets and moments go in, and what is to be done comes out. Speaker owns
// the sockets, one goroutine that reads each of them, one clockwork for all sessions, and one goroutine that tells of changes.
// A reader that has taken packets does what the clockwork would have to do at that moment or could do: sending shares the
// wake-ups of reading.
// Nothing has to be closed; Run leaves no socket behind when its context ends.
package bfd
