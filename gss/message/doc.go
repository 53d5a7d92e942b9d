// Package message is the edge between DNS on the wire and the code that answers: it reads queries and finishes replies,
// and keeps what RFC 1035, 6891 (EDNS), 7873 (cookies), 7871 (client subnet), 5001 (NSID), 7314 (EXPIRE), 7828
// (keepalive), 7830 (padding) and 8914 (extended errors) ask of an authoritative server.
//
//	wire ──Read──► Query ──(zones, rules, transfers)──► dns.Msg ──Finish──► wire
//
// The GSS's slow path calls Read for each message that the fast path does not take, over UDP, TCP and TLS. Read answers
// by itself what needs no zone: what is malformed, of an unknown opcode, EDNS version or class, what only asks for a
// cookie, and who this server is. It drops what deserves no reply: two servers that answered each other's replies would
// never stop. The rest is a Query, which the zones answer, the rules (by Query.Client) and, for NOTIFY, AXFR, IXFR and
// anything signed, the transfer layer. Each gives a dns.Msg with an RCODE, AA and records to Finish, which alone knows
// headers, the OPT record, sizes and truncation. What signs a reply with TSIG appends its record to what Finish gave, and
// has had the room for it reserved. Slip and BadCookie are the replies that gss/limit asks for.
//
// The package has no state but its config and the cookie secrets, opens nothing, and does not look at the clock.
package message
