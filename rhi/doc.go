// Package rhi is route health injection: it announces VIPs by BGP while they are fit to be announced, and withdraws
// them at once when they are not.
//
// A Role is one BGP speaker for the life of one process. What it announces is the sum of the configured own routes
// (`announce`) and of the prefixes that health stands behind, handed over whole through SetAnnouncements. Package inject
// does that inside `anycastle lb`, so that no route outlives the balancer it points at, by what package decide decides. The
// way is always the same: a pure diff between what is wanted and what stands, an apply that is idempotent, and a reading
// back.
//
// A Role is never a transit: it exports its own routes only. With a `router` section it also is the lab's router: what
// it learns goes into the kernel with ECMP, under a protocol number of its own, and what `pass` covers is passed on. A
// next hop that no link leads to is left out. Each route has a resilient nexthop group where the kernel has those (Linux
// 5.13): when one next hop comes or goes, the flows of the others stay where they are. The kernel drops routes by a link
// that goes down; they are set again as soon as the link is back, and within five seconds should the news of it be lost.
//
// It speaks eBGP, IPv4 and IPv6 unicast over sessions of either family, to peers on the same link (which the TTL must
// show, RFC 5082), by a global or a link-local address, or, where `multihop` says so, to some further away; with TCP MD5
// passwords and limits of prefixes where they are set. It dials unless told to wait.
//
// A neighbor with `watches` is only looked at: it is sent nothing, and what it sends stays out of the routing table. Watched
// tells what it has of the routes of other sites, so that one site can see whether the others announce.
//
// What a peer is sent depends on its group. Each group has a ladder, from announced over worse rungs (MED, prepend,
// communities, graceful shutdown) to withdrawn; SetAnnouncements puts each prefix at a rung of each ladder. A prefix is one path
// in the speaker whatever rungs it is at. Marker communities on the path say which, and the export policy, which no rung
// changes, turns them into what a peer gets and takes them off.
//
// What each peer was sent of each own prefix is kept, with the times at which it was caused, decided, written to the peer's
// connection and acknowledged by the peer's TCP. The last two come from the kernel's counters of the connection.
//
// A neighbor with `bfd` is watched by package bfd. When the way to it is lost, its BGP session ends with Cease, BFD Down (RFC
// 9384), and is dialled again; BGP does not wait for BFD to come up. gobgp has no call to send that subcode, so it is written to
// gobgp's connection just before gobgp is told to end the session; should it not be possible, gobgp's own Cease is all that
// the peer hears.
//
// A router that begins passes nothing on before its neighbors have come, and one that ends tells them so a moment before: see
// stage. What it passes on it first does with its own AS once more in the path, so that nobody draws traffic with it before it is
// in kernels all the way. gobgp may send changes in the wrong order; the Role tells peers again what may have come so.
//
// A router puts into the kernel what it learned, IPv4 routes also by IPv6 next hops (RFC 8950). There is no graceful restart:
// with it a peer would keep sending to a dead balancer.
//
// Only one Role with a `router` section may run in a network namespace. Nothing has to be closed; Run leaves neither
// sessions nor kernel routes behind when its context ends.
package rhi
