// Package zone is the data of a DNS zone: it reads zone files, checks them, and finds what an authoritative server says
// about a name. It is pure: no sockets, no clock, no goroutines; the one thing it opens is the file that it is told to
// read, and those that the file includes. A Zone never changes, so any number of goroutines may use one.
//
//	zone file ──Load──► Zone ──WithDynamic──► Zone ──Lookup(name, type, live)──► Result
//	transfer  ──Build─┘                         └──All──► transfer
//
// Some (name, type) pairs may be dynamic: WithDynamic says which, and the Live function that a caller gives to Lookup and
// All has their records of the moment. The zone knows that they exist, so wildcards, denials and additional records come
// out as if they were in the file. Parse finds nearly all that can be wrong with a file; where a dynamic set may be what is
// missing, Dangling tells it afterwards.
//
// # Storage
//
// A zone keeps neither strings nor pointers per record: names are keys in one byte slice, in the canonical order of RFC
// 4034 section 6.1, and the rest is their records' wire form in another. A name with an A and an AAAA record costs about
// 100 bytes, and the garbage collector has nothing to walk. Lookup makes a dns.RR of a record when it needs it; what it
// returns is the caller's to change, but for what Live gave.
//
// Owner names are kept in lower case (RFC 4343 section 4 makes both the same name); names in rdata keep their spelling.
//
// # What it does not do
//
// Records are of class IN. There is no signing: a file with RRSIG, NSEC, DNSKEY and the like is refused, since the server
// signs what it sends. A Result has what the signer needs to deny a name or a type with one NSEC record.
package zone
