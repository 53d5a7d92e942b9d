// Package mtasts knows the policies by which a domain tells senders to reach it by verified TLS only (MTA-STS, RFC 8461).
//
// ParseRecord and ParsePolicy read what a domain publishes. A Cache finds the policy of a domain: it asks for the TXT record,
// fetches the policy by HTTPS when it is new, and keeps it on disk for as long as the policy says, so that nobody who blocks
// DNS or HTTPS can take it away. Run refreshes policies before they expire; the rest works without it. Nothing
// has to be closed.
//
// A Server is the other side: it serves the policies of our own domains, and gives the TXT records that belong to them.
package mtasts
