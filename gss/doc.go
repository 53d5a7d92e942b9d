// Package gss is the Global Site Selector: the authoritative DNS server that answers a mail name with the site that
// serves it now. (It has nothing to do with GSSAPI.)
//
// A node serves zones. Most of them is plain records, from zone files or the node file. DNS rules answer for some of their names
// from answer groups, whose answers are the sites' VIPs. What each client gets follows from probes, orders and the balance
// methods. The path is
//
//	config + probe results + balancers' reports + orders ──decide──► decision ──► snapshot (swapped whole)
//	query ──message.Read──► zone.Lookup (rules' records from the snapshot) ──message.Finish──► reply
//
// Package decide is pure, and so are zone, which finds what a zone says, and message, which knows EDNS. The engine here
// gathers what is known and has it decided anew whenever that changes, or a time comes. A name with a rule is always
// answered with NOERROR: when nothing works, with what worked last and an extended error (RFC 8914), since a resolver that
// gets SERVFAIL or silence goes on serving the dead site's address from its cache. Nothing is answered before every answer
// has been probed once, or that was awaited for too long; a reload that brings answers waits for them likewise. Orders and
// decisions are kept on disk; of an order about an answer and one about its site the one that asks for more counts. Package
// balancer hears what balancers say of the answers.
//
// Zones may come from primaries, and go to secondaries, by transfers that package transfer makes. Their serial is that of their file,
// whatever rules answer at the moment; so a secondary has a rule's answers as they were when it last took the whole zone, and only who
// asks this server is led round a failure. A secondary zone that expires is answered with SERVFAIL, as any secondary does, but for the
// names that rules answer for.
//
// Zones may be signed (package sign). The package does no recursion or dynamic update. cmd/anycastle calls it: New, then Run in the
// role's process, with Status and Handlers behind the status socket. Nothing has to be closed; Run releases its sockets
// when its context ends.
package gss
