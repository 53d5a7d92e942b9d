// Package wire joins the replicas of all LUNs of a process to those of other processes: one listener and one way to dial,
// over mutual TLS.
//
// Who dials says first, in one line, what the connection is for:
//
//	anycastle-replica 1 LUN KIND FROM ERA
//
// The other side answers "ok", or "no" with a reason, and from then on the connection belongs to the kind. ERA counts how
// often the members of the LUN's group were set by hand: members of different eras must not talk, or those of before
// could still agree on something, and only kind hello is open between them. FROM is a member of the LUN; that it is who
// it says rests on its certificate, which must be of the same CA.
//
// A Node is a process; Serve must run for it to be called. A Group is one LUN of it, and is what the packages group and
// bodies get their connections from; it must be closed. A connection that is handed out is the taker's to close; the other
// end must make itself heard within the taker's own deadlines, and the kernel ends a connection whose host is gone.
package wire
