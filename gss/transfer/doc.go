// Package transfer moves whole zones between authoritative servers: out to secondaries (AXFR of RFC 5936, IXFR of RFC 1995,
// NOTIFY of RFC 1996) and in from primaries, each message signed if the two share a key (TSIG of RFC 8945).
//
//	zone.Zone ──History.Take──► deltas ──History.Answer──► Batches ──Signature.Sign──► secondary
//	primary ──Client.Update──► zone.Zone ──► Follower (timers, files) ──Options.Install──► whoever serves it
//
// Who answers queries calls Keys.Check for those that are signed, has History.Answer say what a transfer consists of, and
// sends the Batches. Follower and Notifier each have a Run that blocks until its context ends and waits for all that it
// started; nothing else has to be closed. Everything is safe for concurrent use but a Signature, which is for one reply.
//
// # What is transferred
//
// The sets that DNS rules answer for change with the health of sites, and the serial does not change with them: a serial per
// probe result would have each secondary transfer all the time, and it would be late still. A whole transfer therefore has
// those sets as they are at that moment, one that is incremental has nothing of them, and History answers with a whole one
// wherever the names that rules answer for are others than they were.
//
// # What it does not do
//
// It signs no zones and takes none that are signed, since zone has no such records. It asks primaries over TCP alone; it does not
// speak TLS to them (RFC 9103), though what it sends may go over any connection. Dynamic updates (RFC 2136) and catalog zones are
// not known to it.
package transfer
