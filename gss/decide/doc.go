// Package decide is the decision engine of the global site selector: what each DNS rule is answered with, for how long, and
// why.
//
// It is pure. Next takes what was decided before, all that is known, and the time, and gives what is to be answered; it does
// no I/O, starts nothing and keeps nothing. It is to be called when an input changes and at Decision.Wake. The caller
// makes records of the choices, and keeps the State, which may be lost: then nothing is "the last known good".
//
// # Where an answer stands
//
// Each answer stands at one Place:
//
//	serving    may be given to clients
//	hot        serving, but its balancers are nearly full; others go first
//	waiting    healthy again, but its fail-back time or somebody's order to activate is awaited
//	draining   by order, or because all its balancers drain: goes last of those that work
//	out        does not work
//	suspended  by order: never given while anything else is there
//	unknown    nothing is known of it yet
//
// Whether it works is decided by vantages: each GSS probes the path to it and tells the others. While more than half of the
// vantages are heard, a majority of those that have an opinion decides, and a tie changes nothing. With fewer, what was
// agreed last holds for a while from then on (Vote.Hold), and then the own view does, as a lone GSS cannot tell a dead site
// from a cut link, but must not stay wrong for ever. An answer is out before any majority if all of its balancers that report
// say so and one path probe agrees: one witness of each kind, neither of which alone can take it out. A balancer that is not
// heard says nothing: its report ages to the static weight and never means out.
//
// A clock may be set back. What was heard is compared by a clock that is never set, where the times given have one; else
// what was heard ahead of now does not count, and what is remembered so counts as of now.
//
// # What a rule is answered with
//
// The clauses of a rule are tried in order, first for answers that serve, then for those that are hot, that wait, that
// drain; if none of any clause works, those of its answers that were given last when one did; if there never was one, the
// whole of the first group that has more than suspended ones. So a rule always has an answer, whatever happens: a resolver
// that gets none keeps the address of the dead site.
//
// A rule that is part of another (Rule.PartOf) chooses for clients that ask for addresses of a family that not all answers
// have, so that they find one wherever some answer that is well has it.
//
// The balance methods: ordered gives the first, round-robin all in turn, weighted by their weights, least-loaded by weight and
// headroom, hashed by the client's address, nearest the first by the order for the client's place. Headroom is what is left
// of a balancer's capacity. The shares of least-loaded move by at most Load.Slew in the time of one TTL, so that the load
// can answer before more of it moves, also from what gets hot; what is out, drains or is suspended loses its share at once.
//
// # How long
//
// The TTL is short (Clause.ShortTTL) while any answer of the rule is not serving, or its last probe failed at any vantage, as
// then the next change is near. A drain by order takes effect once the answers that were given before it have expired: until
// then the TTL shrinks so that all end together. The State remembers how long resolvers may hold what they were given of each
// answer, whatever the config says since. From that Decision.Drains says when no resolver that honours TTLs can hold the old
// answer any more, also of what is suspended. Who needs a while to make the replies of a decision, and gives those of the one
// before until then, calls Late.
//
// A Decision has a generation, which grows by each change of what clients are given, or of what that is made of.
package decide
