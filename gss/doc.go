// Package gss is the Global Site Selector: the authoritative DNS server that answers a mail name with the site that
// serves it now. (It has nothing to do with GSSAPI.)
//
// A node serves one zone. Most of it is plain records from the node file. A DNS rule takes a name out of them and
// answers its A queries from an answer group, whose answers are the sites' VIPs; probes say which of them pass, and
// the group's balance method picks. The path is
//
//	config + probe results ──decide──► decision (swapped whole) ──respond──► reply
//
// decide and respond are pure. A name with a rule is always answered with NOERROR: when nothing passes, with what
// passed last, since a resolver that gets SERVFAIL or silence goes on serving the dead site's address from its cache.
// Nothing is answered before every answer has been probed once.
//
// The package does no recursion, zone transfer, dynamic update, delegation, wildcard or DNSSEC, answers rules with
// IPv4 addresses only, and keeps no state on disk. cmd/anycastle calls it: New, then Run in the role's process, with
// Status behind the status socket. Nothing has to be closed; Run releases its sockets when its context ends.
package gss
