// Package lbbench measures the load balancer from end to end: the built binary in namespaces, with real connections,
// beside an nftables DNAT balancer and HAProxy in the same namespaces; `make bench-lb` runs these benchmarks. Its tests give
// the orders of an operator to balancers and look at what becomes of tables and connections, replace a balancer under
// load, take a large mail through one, and count the connections that changes of the site break.
//
// The network is a client and a router, behind which two balancers (equal-cost routes in front of them) and the reals
// are, each on a link of its own. A figure of one run is compared only with others of the same run.
package lbbench
