// Package group keeps the operations of a LUN in the same order on all its replicas: one raft group per LUN, with the log
// in a write-ahead log of its own directory. It elects the replica that leads, ties each operation to the one before it,
// and applies what a quorum has to the replica's state, which it knows as a Machine only.
//
// It knows no mail, no bodies and no policy: which operation may be acknowledged is for its caller, package replica, who
// learns from Matched how far each member has the log on disk, and from Lease whether this one may still speak for the LUN.
//
// A Group is opened with Open, works while Run does, and is closed when Run returns. What the disk lost or damaged never
// ends the process: the group says Broken, votes no more, and leaves the others to go on.
package group
