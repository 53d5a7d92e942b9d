// Package limit bounds what one source can make the GSS do, and what the GSS can be made to do to others.
//
// Response rate limiting: a query over UDP may have a forged sender, and its reply then hits a victim. Who sends a reply
// asks Decide, which counts equal replies (of one Kind and name) to the same network: so many a second go out, of the rest
// each Slip-th goes out truncated, and the others do not. A real resolver comes back over TCP, which cannot be forged, and
// the truncated reply is larger than the query by a server cookie at most. All replies to a network together can be bounded
// too. Both paths call Decide: the fast path with the hash that it has computed along with the answer (NameHash), the slow
// path for every reply, errors included. Replies to who has shown its address (message.Query.Trusted: a valid cookie, or
// TCP) always go out.
//
// Per source: Query bounds the queries a second of a network, and Open the connections of a network and of all. The servers
// of UDP, TCP and TLS call these, before they read a query further.
//
// # On by default
//
// Rate limiting is on, at 200 equal replies a second to a network, with a slip of 1. The rate is what NSD has; it is
// high because answers here live for 5 seconds: a public resolver with 250 caches in a /24 asks for one name 50 times a
// second in all honesty. A slip of 1 never leaves a resolver without a reply: silence would make it serve the address of a
// dead site from its cache (RFC 8767), which is what a GSS is there to prevent. With a slip of 1 an attacker's packets come
// out of here as they came in, one for one and hardly larger, so that he gains nothing but another sender's address; who
// would rather send fewer sets 2. A limit on queries over UDP is off: who forges the sender would make it bite the victim.
//
// # The table
//
// Counting is in a table of fixed size, of sets of eight buckets in one cache line, chosen by a keyed hash. A bucket is one
// word, changed by compare-and-swap: no lock, no allocation, and no goroutine. It holds the time at which its debt is
// paid: each reply adds 1/rate seconds, and time pays them off. The times wrap: every 61 hours who comes first to a part of
// the table empties the buckets there that owe nothing.
//
// When all eight buckets of a set are taken, a new network takes the one with the least debt, and takes over the debt with
// it. So no bucket ever shows less than its network owes: what is evicted had the least debt of the set, the debts of the
// set only grow and are paid at one pace, and so who comes back finds at least its own. A flood from forged addresses can
// therefore never wash a victim's bucket away and set it free. The price is that a flood that is too large for the table
// limits everyone whom it has not seen; that is, when it has more replies a second than buckets times rate. The default
// table bears 100 million a second, more than the server.
//
// Changing the limits means a new Limiter: the debts are forgotten, and open connections count in the old one until they
// close. Nothing has to be closed but each Conn.
package limit
