// Package throttle slows down who guesses passwords, and bounds what one account may send. The submission service and the
// IMAP front end use it; nothing has to be closed, and everything is safe for concurrent use. It remembers in memory only:
// each process counts for itself, and forgets when it ends.
//
// Logins counts failures by three things at once: by source (an IPv4 address, or the /64 of an IPv6 one), by account, and by
// account and source together. A source, or a source with one account, is delayed more and more and then refused. An account
// as such is only delayed, by 8 s at most, since else whoever knows an address could lock its owner out. And a source from
// which the account has logged in before waits for neither what others do to the account nor what they do from that source.
//
// An account need not exist: unknown ones are counted like others, so that they look the same.
package throttle
