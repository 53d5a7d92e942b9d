// Package mesh keeps a small map the same on every member of a group of processes: the load balancers of a site, the
// site selectors of all sites.
//
// Map is the data: keys and values, of which the last writer wins. It stands alone too: a balancer without a mesh has
// its orders in a Map and saves it to a file. "Last" is by a hybrid logical clock: the wall clock of the writer, never
// behind any change it has seen, then a counter, then its name. Merging is commutative, associative and idempotent, so
// members that have seen the same changes in any order hold the same map. A deleted key leaves a tombstone for 30 days;
// a member that was away for longer may bring the key back, and Load says so.
//
// Mesh is the group: memberlist's gossip, encrypted with a shared key both ways. A change is gossiped at once, and
// members exchange their whole maps now and then and whenever one joins. Members that were lost are looked for again for
// as long as the process runs. Who holds the key is believed, within bounds: the map's size, the number of members, the
// size and number of connections are limited, and changes from more than an hour ahead are refused. Messages can be
// replayed by who records them; that brings back nothing but what the map has or has buried, for as long as the
// tombstone lasts.
//
// Tell says what is of use only while it is new, such as a sign of life: a packet to each member, kept by nobody.
//
// Run owns every goroutine that the package starts and waits for them. Those of memberlist itself end soon after, and
// touch neither map nor network once Run has returned. Only this package imports memberlist, whose own metrics go
// nowhere: it writes them to a global sink that nobody sets.
package mesh
