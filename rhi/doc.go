// Package rhi is route health injection: it announces VIPs by BGP while they are fit to be announced, and withdraws
// them at once when they are not.
//
// A Role is one BGP speaker for the life of one process. What it announces is the sum of the configured own routes
// (`announce`) and of the prefixes that health stands behind, handed over whole through Set; lb does that from inside
// `anycastle lb`, so that no route outlives the balancer it points at. The way is always the same: a pure diff between
// what is wanted and what stands, an apply that is idempotent, and a reading back.
//
// A Role is never a transit: it exports its own routes only. With a `router` section it also is the lab's router: what
// it learns goes into the kernel with ECMP, under a protocol number of its own, and what `pass` covers is passed on. A
// next hop that no link leads to is left out. Each route has a resilient nexthop group where the kernel has those (Linux
// 5.13): when one next hop comes or goes, the flows of the others stay where they are. The kernel drops routes by a link that goes down; they are set again as
// soon as the link is back, and within five seconds should the news of it be lost.
//
// In this version it speaks eBGP to peers on the same link: IPv4 unicast to those with an IPv4 address, IPv6 unicast to
// those with an IPv6 address. It has no BFD and no graceful restart: with graceful restart a
// peer would keep sending to a dead balancer.
//
// Only one Role with a `router` section may run in a network namespace. Nothing has to be closed; Run leaves neither
// sessions nor kernel routes behind when its context ends.
package rhi
