// Package store keeps the mail of one LUN in Maildir++ trees and is the only code that writes there.
//
// Each mailbox is a directory ROOT/ADDRESS with tmp, new and cur for INBOX, and one directory .NAME for each further
// folder. Every change goes through an operation of Mailbox or Folder, under the mailbox's one lock, and is on disk
// when the operation returns: a message is written to tmp, fsynced, recorded with its UID, renamed into place, and
// the directory fsynced; only then may the caller answer 250 or OK. What a process before this one left is fsynced when a
// folder is first used. A crash leaves at most a file in tmp, which no
// one reads and nothing removes, or a UID that is never used.
//
// UIDs and UIDVALIDITY are in dovecot-uidlist. UIDVALIDITY counts up within a mailbox, from the clock at first, and is
// never used twice. A list
// that is lost or damaged is set aside and rebuilt under a new UIDVALIDITY.
//
// A delivery that carries a transaction id is done once: the id is part of the file name, and a second delivery of the
// same id to the same mailbox within an hour changes nothing and succeeds. Ids outlive a restart, but not the
// deletion of their message followed by a restart.
//
// One process at a time may have a LUN open. A Store must be closed. All methods are safe for concurrent use.
package store
