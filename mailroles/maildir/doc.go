// Package maildir reads and writes the names and lists of a Maildir++ tree, as stock Dovecot understands them.
//
// It holds the pure part: message file names with their flags, folder names as directories, keywords, and the UID list
// (dovecot-uidlist, version 3). It touches no file; package store does. Nothing has to be closed.
package maildir
