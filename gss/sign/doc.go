// Package sign is DNSSEC for zones whose answers change with health: replies are signed online, by one combined signing key
// (CSK) per zone, and keys are rolled without help.
//
// It looks nothing up and opens no socket but through what it is given, and starts nothing that outlives a call. A Signer secures
// replies; a Keeper owns a zone's keys and tells, with each Step, the Ring for Signer.Use. Who joins them calls Use before the
// first reply, serves Ring.Records at the zone's apex, calls Presign with the zone, Add at each change of state, Refresh every
// hour, and Step at Decision.Next, after orders and with what Parent.Observe finds, say every hour.
//
// # Replies
//
// Signatures are kept by the content of the set: owner in lower case, records in any order, TTL left out, as a set may be sent
// with a lower TTL than it was signed for (RFC 4035 section 5.3.3). So a query for what was pre-signed costs no crypto, whatever
// a balance method or a drain does to order and TTL. What was not pre-signed, above all names that do not exist, costs one
// signature, and is kept in a cache of bounded size.
//
// What does not exist is denied by compact denial (RFC 9824, "black lies"): NOERROR with one NSEC record at the name itself,
// whose next name is the one right behind it, so that a reply tells of no other name. A name that does not exist has the
// type NXNAME there. A query with the EDNS flag CO gets NXDOMAIN beside it. The record tells the types that are at the name,
// never the one that is denied. A query for NXNAME itself is to be refused with FORMERR before it comes here (section 3.5).
// A name that a wildcard stands for is signed as if it stood in the zone, so no proof about the wildcard is needed.
//
// Signatures are valid for 14 days and are made again when a quarter is left. When a key cannot sign, what was signed before is
// used for as long as it is valid; after that, a set goes out without a signature. It never becomes SERVFAIL: that helps
// nobody who validates, as a set without signature makes a resolver ask another server just the same, and takes the answer away
// from everybody else.
//
// # Keys
//
// The life of a key: it is made, and published in the DNSKEY set, which each key in it signs. When all caches have that, the
// parent is asked for its DS record by CDS and CDNSKEY (RFC 7344), signed by the former key too, which the parent
// knows. When all the parent's servers show the new DS set, and caches have lost the former, the key takes over the
// signing of data. When caches have lost the former's signatures, the former leaves the DNSKEY set, and its files are removed
// when nobody can remember it. Data is never signed twice, except while the algorithm changes (RFC 6781 section 4.1.4):
// then the new key signs all before it is published, and the old one until nobody remembers it.
//
// This order is not written down as such. Next keeps record of all DS sets, DNSKEY sets and signers of data that some cache may
// still hold, each with the greatest TTL it had and the time that servers may be late; it has a list of moves
// that lead to the goal, and makes each as soon as every combination of the three still validates, by the strict rule that
// each algorithm must (RFC 4035 section 2.2). Why that is enough: a validator uses one DS set, one DNSKEY set and
// one signature at a time. Each is one that the record has, else it would be older than its TTL allows. At a move, all
// combinations with the new set are checked; between moves the record only shrinks, but for DS sets, and what the parent may
// put there, the request for it was checked for when it was made. So first keys, rolls, orders in the midst of a roll,
// changes of algorithm or TTLs, and the way back to an unsigned zone (RFC 8078) are one case. A simulation with servers and
// a parent that are late, and every combination of caches, tries to prove it wrong.
//
// What it cannot know, the Policy has to say: how late servers are, and the parent. A key that the parent's DS set has, on any
// server, is never removed. If the parent never acts, nothing happens, and KeyStatus says what is waited for. The parent is
// believed only when all of its servers answer; without Parent, an operator's order (Observation) takes its place.
//
// A stolen key is replaced in the same way, with no wait but those for caches: who breaks the chain in haste takes the zone away
// from everybody. Such a roll takes about a TTL of DNSKEY, one of DS and one of data; short TTLs are what makes it fast.
//
// # Several servers
//
// All servers of a zone sign for themselves and need the same keys: the unit is the Store, a directory. One server is the
// keeper; the others have a copy, made by whatever copies files within Policy.Propagation (keys first, then the
// state: a state without its keys is refused, and the former ring stays in use), and Follow. If they know of each other that
// one is behind (Decision.Serial), Keeper.Behind has the keeper wait for it. If the keeper dies nothing
// expires; no key rolls until it is back, or another server, which has the same files, is made the keeper. A zone that was
// signed by something else, with one key alone, is taken over by Store.Adopt.
package sign
