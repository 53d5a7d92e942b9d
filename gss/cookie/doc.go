// Package cookie makes and checks DNS server cookies: RFC 7873, in the interoperable form of RFC 9018 (version 1,
// SipHash-2-4), so that servers of several makes behind one address accept each other's.
//
// A cookie proves that its sender can receive at the address it sends from, for an hour. gss/message calls Check and
// Renew for each query that has a COOKIE option, and gss/limit lets queries with a valid one pass; the fast path calls
// both as well, since neither allocates. The role calls Load at start and at reload and hands the secrets to Set.
//
// A secret is rolled over as RFC 9018 section 5 asks, with one file that all servers share: add the new secret as a
// further line and reload every server (all accept it now), put it first and reload (all make cookies of it), and an hour
// later remove the old line. Without a file, Random gives a secret that no other server knows: cookies then end with the
// process, and clients get new ones from their next query.
//
// Nothing has to be closed, and nothing runs in the background.
package cookie
