// Package smtpd receives mail: as MX from the world over SMTP (Front), and as store from the front ends over LMTP (Store).
//
// Both are the same server and session with another Handler behind. The session collects a message, refuses it when
// it is unsound, and answers 250 only after the handler has stored it for every recipient; whatever is not sure is 451,
// so that the sender keeps the mail and tries again. A retry is recognised by its transaction id, over whatever MX it comes.
//
// On its way a client meets, in this order, the Screen before the banner, the Filters at each command, the Handler's word
// on each recipient, and for the message the Judge, the Filters and the Handler. combineAsked and combine say what becomes
// of an address behind which several mailboxes answer differently.
//
// SIZE, 8BITMIME, SMTPUTF8, PIPELINING, CHUNKING, ENHANCEDSTATUSCODES and STARTTLS are offered, and DSN where somebody makes
// the reports; REQUIRETLS is not. A message has at most 100 recipients and 100 Received fields. Twenty commands refused for
// good, or three that are none, end a conversation with 421.
//
// A message must have CRLF at every line's end: a bare CR or LF is refused (RFC 5321 section 2.3.8), because servers that
// disagree on where lines end can be made to disagree on where messages end. Apart from a CRLF that is added when a
// BDAT body lacks the last one, and from Authentication-Results fields in our own name, which are taken off, bytes pass
// unchanged. A body that is sent before the 354 is refused with 503.
//
// The library below has habits that lose or bounce mail; session, guard and wire keep them in: a BDAT body that ends
// with the connection, ".\r" within a DATA body that is dropped, errors that would be 554, a body time-out after which the
// rest would be read as commands, a second MAIL that keeps the recipients of the first, and idle clients that would hold up
// an end for ever.
//
// With Options.Auth clients may log in, by PLAIN, LOGIN or SCRAM-SHA-256, and over TLS only. The Handler is told who did, and
// decides what that is good for. After three failed logins a session ends.
//
// The log has every refusal of mail with its reason, and every message that the MX handed on, with the id in its Received
// field.
//
// Hold keeps transactions back while a LUN moves to another replica. What a replica that is not active refuses is 451 4.3.2.
//
// Run serves until its context ends, then lets running transactions finish for a few seconds. It does not queue.
package smtpd
