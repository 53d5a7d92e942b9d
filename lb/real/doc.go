// Package real makes a server able to answer for VIPs: `anycastle real` runs it.
//
// A load balancer sends a real the packets of a VIP encapsulated IP-in-IP. The package puts a decapsulating XDP program
// on the uplinks, the VIPs on the loopback, and sets the uplinks up so that the server answers clients directly and
// never answers ARP or neighbour discovery for a VIP, which belongs to the load balancer on that network.
//
// With an agent, two more programs on the uplinks count what becomes of new connections, and load balancers read reports
// of that, of queues, flows and load, over mutual TLS (package lb/agent): a server that refuses connections is out long
// before the next probe finds it so. Who has no certificate of the CA gets nothing.
//
// It runs no service and probes nothing. Role.Run owns everything: a clean end takes the programs and the VIPs away
// again, and a start after a kill takes over what was left. Nothing has to be closed.
package real
