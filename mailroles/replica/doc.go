// Package replica is one replica of a LUN: the store, the group that orders its operations, and the bodies that travel
// beside it, put together. A witness is one without a store.
//
// At most one replica of a LUN is active: the one that leads the group, holds its lease and is fit. It serves the mail
// through Options.Serve; all others keep a warm store in step. An operation is acknowledged when it is committed and two
// mail replicas, at two sites, have it and its bodies on disk; what happens when the other site is gone is the policy's
// to say.
//
// A replica without a state, or whose state cannot be trusted, is blank: it votes for nobody, takes the whole state from the
// active one, and follows from there. The first start of a LUN is the same, but for the one replica that begins the group,
// alone, once all others have said that they have nothing. A disk that fails makes a replica unfit: it hands over, closes
// what it has, and opens it again until that works.
//
// By file: life opens a replica and opens it again when it failed; genesis finds the state to follow from; epoch is one time of
// being active, journal what the store proposes to, and prove decides what may be acknowledged, with exposure counting what
// is at one site only. The steward, at the active replica, gives votes, hands over what is unfit and gives back to whom is
// preferred; move is the same by order, with sessions held at rest. scrub compares and repairs, promote goes on alone
// when an operator accepts the loss, disk watches the disk, and desk answers what other replicas ask.
//
//	group    orders the operations: elections, the log, the lease
//	chain    the sum that each operation carries of all before it
//	bodies   sends and fetches bodies, manifests and what replicas tell of themselves
//	wire     one listener and mutual TLS for all of these, for all LUNs of a process
//
// It does not serve mail, take addresses or hold sessions: Options has the functions of the role for these. Elections need no
// clock that is right; what is acknowledged needs disks that keep what they have synced.
//
// The caller makes a Replica with New and calls Run, which holds all that it opened and gives it back. Its methods are safe for
// concurrent use; Promote, Move and Scrub are an operator's orders and return when they are carried out, or begun.
package replica
