// Package table answers plain DNS queries over UDP from replies that were packed beforehand.
//
// A Table is immutable. A Builder makes it of entries, each for one name, type and class of clients: one or more variants of
// the whole reply, and how one of them is picked for a query. Whoever decides anew, because a site's health or load has
// changed or a zone was loaded, builds another Table and publishes it by an atomic pointer; readers hold one Table for a
// batch of queries. Where few of many names change often, keep two: one of the few, asked first, and one of the rest.
//
// Answer knows one kind of query: opcode QUERY, one question of class IN, no records but an OPT of version 0. All else it
// leaves to the caller's slow path, and so it does with each query whose answer is not in the table: it never gives an
// answer that the slow path would not. In such a query it
//   - takes the name in any mix of cases and gives the question back as it was spelt;
//   - copies ID, RD and CD (RFC 4035 section 3); AA and the response code are the variant's; AD, Z and RA are clear in every
//     reply (RFC 4035 section 3.1.6 for AD, RFC 6895 section 2.1 for Z);
//   - answers an OPT by one with our size and their DO (RFC 6891, RFC 3225), NSID if asked for (RFC 5001), a cookie for a
//     cookie (RFC 7873), a client subnet for a client subnet (RFC 7871), and the variant's own options, such as an extended
//     error (RFC 8914). Padding is for encrypted transports and ignored, as are options that we do not know;
//   - gives the signed form of a variant when DO is set and there is one;
//   - leaves out the additional section of an authoritative answer that is too large with it (RFC 2181 section 9), and sets
//     TC in a reply with nothing in it but OPT if it is too large even so. Too large a referral, whose glue counts (RFC
//     9471), and too large a reply with options of the variant are the slow path's.
//
// Client subnets: the class is that of the subnet instead of the sender's address. The scope of the reply is 0 if the answer
// does not depend on the client; else it is the length of the shortest prefix around the subnet whose addresses are all of
// one class, and at least that of the subnet that a Hashed entry hashes. A subnet of length 0 asks for privacy: the sender's
// address decides, and the scope is 0 (RFC 7871 section 7.1.2). A malformed one is left to the slow path.
//
// Nothing is allocated per query, nothing has to be closed, and no goroutine is started.
package table
