// Package store keeps the mail of one LUN in Maildir++ trees and is the only code that writes there.
//
// Each mailbox is a directory ROOT/ADDRESS with tmp, new and cur for INBOX, and one directory .NAME for each further
// folder. Beside the mailboxes are the directories of the store: .incoming, .oplog, .quarantine, .trash, .expunged and
// .snapshots.
//
// Every change is an operation: deliver, append, flags, move, copy, expunge, create, rename, delete, subscribe, and adopt
// for what others put there. It holds all that it decides, such as UIDs and names, so that doing it again leads to the
// same. The way of a message:
//
//	body → .incoming, fsync → operation → log, fdatasync, for all that wait → memory, and the tree by rename → 250 or OK
//
// The body is written by many at once and without a lock, and the tree without waiting for the disk. A checkpoint, each
// minute or sooner, and at Close, writes the lists of folders that changed, makes the whole file system durable, and
// cuts the log off. Between checkpoints the tree's lists are behind; its files are not.
//
// A start takes the state that the tree shows, which is that of the last checkpoint or later, does the log's operations
// on it, and makes the tree fit: a pure function finds the steps, and doing them twice, or after a crash within them,
// leads to the same. A mailbox of which the log does not speak is read when it is first asked for. A file in new or cur that
// nobody knows is adopted with a UID and an operation; what no message can be, a list that is damaged, and a body that was
// never acknowledged go to .quarantine, with the reason, and nothing is ever deleted there. A message that has no file is
// reported, and goes.
//
// When the disk fails to write the log or to make the tree durable, nobody knows what it has: the store stops with
// ErrStopped and must be opened again. A full disk is an error of the one operation; the log keeps room for operations
// that free space. The file system must keep the order of renames and removals, as ext4, XFS and btrfs do.
//
// UIDs and UIDVALIDITY are in dovecot-uidlist. UIDVALIDITY counts up within a mailbox, is never behind the clock, and is
// never used twice. A list that is lost or damaged is rebuilt under a new UIDVALIDITY. A folder has at most 26 keywords,
// those that have a letter in Maildir; dovecot-keywords names them. anycastle-index saves looking at each message's file,
// and can be removed at any time.
//
// A delivery that carries a transaction id is done once: a second delivery of the same id to the same mailbox within an
// hour changes nothing and succeeds, also after a restart, and when the message is gone by then.
//
// The operations of a replicated LUN are ordered by its Journal, and Apply does each at every replica: nothing else changes
// what is acknowledged. The one that leads proposes them, and foresees what they will do; all the others, and it itself,
// do what comes. MODSEQs are indexes of the journal, so that they are the same everywhere, as is all else. The way of a
// message:
//
//	body → .incoming, fsync, and meanwhile to the others → operation → journal → Apply: memory, and the tree → Prove → 250
//
// Each replica makes checkpoints in its own time. The tree may be ahead of the last one after a crash, by what had been
// done until then: operations are kept until those have come again (Expect), and done on what the tree shows as a whole.
// A message whose body is not here waits for it (Missing, TakeBody), and is never given up but by an operation. Nothing is
// adopted: files that no operation speaks of go to .quarantine. A tree that lost what only it had, such as a list, is
// Blank, and made anew from another replica's manifest (Install), with the bodies that are here. A LUN that was not
// replicated becomes one when it is first opened with a Journal; its own log is done and dropped then.
//
// The body of a message that goes is kept in .expunged for as long as the log is, and less when the disk is nearly full. A
// snapshot, every 8 hours or when asked for, has what all mailboxes held after one operation, the same one at all replicas:
// a list for each mailbox, captured in memory at that operation, and bodies, linked later, in the background. It is a
// subvolume of btrfs, clones, or second names. Restore puts back what is gone since a snapshot, or since any operation
// that the log still has after one, by operations of its own, with the UIDs and flags of that moment, and leaves alone
// what is there.
//
// One process at a time may have a LUN open; no other program may write to its tree meanwhile. Run makes checkpoints
// while it runs. A Store must be closed. All methods are safe for concurrent use. Locks are taken in this order: that of
// who leads, a mailbox's loading, the store's gate, a mailbox's order, its layout, its mu, the store's mu. Operations of a
// replicated LUN hold a mailbox's order while they wait for Apply, which takes the others, and never order.
package store
