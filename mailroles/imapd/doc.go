// Package imapd serves a store's mailboxes over IMAP4rev1 to the front ends.
//
// A front end has authenticated the user; it proves itself by mutual TLS and names the user with SASL EXTERNAL. Nobody
// else can log in: there is no password here.
//
// Each session has its own view of the selected folder, the list of messages as the client knows it. A view is brought
// up to date against the folder at the moments when IMAP lets the server speak of changes; a pure function finds the
// differences.
//
// The library below has gaps that the package closes: a guard on the byte stream ends sessions that send an oversize
// non-synchronising literal or bytes behind an APPEND, an APPEND that is cut off is not stored, and EXAMINE is
// read-only. Keywords, CONDSTORE and keep-alives in IDLE are not here.
//
// Run serves until its context ends.
package imapd
