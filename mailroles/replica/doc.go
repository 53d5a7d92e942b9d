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
// The caller makes a Replica with New and calls Run, which holds all that it opened and gives it back.
package replica
