// Package mesh keeps a small map the same on every member of a group of processes: the load balancers of a site, the
// site selectors of all sites.
//
// Map is the data: keys and values, of which the last writer wins. It stands alone too: a balancer without a mesh has
// its orders in a Map and saves it to a file. "Last" is by a hybrid logical clock: the wall clock of the writer, never
// behind any change it has seen, then a counter, then its name. Merging is commutative, associative and idempotent, so
// members that have seen the same changes in any order hold the same map. A deleted key leaves a tombstone for 30 days;
// a member that was away for longer may bring the key back, and Load says so.
package mesh
