// Package reach tells what may talk to what in a lab: an expected matrix as text, and probes with real packets.
//
// A matrix names places, which are nodes to ask from, and services, which are addresses and ports to ask, and says for
// each two whether the service answers. Probe runs in a node (`anycastle lab reach`) and asks many services at once;
// Run has every place of a matrix asked and gives what differs. What must not be reachable has to be silent: a refusal
// is an answer too. A node that asks itself gets an answer that says nothing of what is between, which suits either.
//
// The tests of the lab call it; one of lab/pod holds the matrices against the firewalls that it renders. Nothing has to be closed.
package reach
