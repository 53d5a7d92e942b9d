// Package inject joins what a balancer knows of its VIPs, what the other balancers say, and an operator's orders, has
// package decide decide, and gives the outcome to the BGP speaker.
//
// An Injector decides for one balancer. Set hands over the health of its VIPs and decides before it returns, so that a
// VIP that is not fit is withdrawn, or stands at the end of the ladder, before anything else happens to its packets. Run
// decides again when another balancer is heard, an order comes, a session or the routing table changes, or something ends
// by itself. If Set is not called within the lease, the balancer hangs, and its VIPs go.
//
// The others are heard through a mesh of all balancers that announce the same VIPs, at all sites. Each tells its reports
// to each other one every second and at every change, in packets that nobody keeps: a report that is not renewed is worth
// nothing after some seconds. Each telling carries the start of the process that sends it and a number that rises, so that
// neither packets that come late nor such that somebody has recorded bring back what is over. Nobody has to be named in the config: who was
// heard is known, and is not forgotten while this balancer holds for it.
//
// Orders are about a site: all balancers that name it take them. They stand in the map of the mesh, which each keeps in a
// file, and so survive a restart. What was decided is kept in a file too, and may be lost.
package inject
