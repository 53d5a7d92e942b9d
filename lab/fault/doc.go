// Package fault breaks parts of a running lab by hand, and heals them again: what `anycastle lab fail` and
// `anycastle lab heal` do, and the keys of `anycastle lab watch`.
//
// A Fault says in the words of the command line what is broken: a node, a role, a site, a line. Parse makes one, and
// complains like a command line. Standing finds those that stand, from what the kernel says of processes, carriers and
// cuts: nothing is written down, so a fault made in any other way is found too, and one that is healed elsewhere is
// not healed twice. The package does nothing itself that lab/runner does not do.
package fault
