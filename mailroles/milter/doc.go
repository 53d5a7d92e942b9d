// Package milter asks mail filters about sessions and messages, in the protocol of Sendmail's libmilter, versions 2 to 6:
// rspamd's proxy and clamav-milter speak it. A Chain is the smtpd.Filters of a role.
//
// Milters are asked in order. What one has changed, the next one sees, except for the envelope: of senders and
// recipients a milter hears only those of the client. A milter may accept (it is not asked again about this message, the
// others are), refuse for good or for now, word the reply itself, have a message dropped or kept apart, change, insert,
// add and delete fields, put another body in the place of the message's, change the sender, and add and delete
// recipients; a message without any recipient left is dropped. Its verdict on a client holds for the client's session.
// Bytes of the message that it has not changed stay as they are. If it changes any field, those of the envelope's head
// become part of the body.
//
// A milter that is not there, does not answer in time, goes away or does not speak the protocol means 451 for the
// command, and for the rest of the transaction, unless it is configured to be done without. The time-out is for all that
// one milter has to say to MAIL (with what comes before it), to RCPT, or to a whole message; progress that it reports
// does not prolong it, since the client's patience does not grow either. Each session has its own connection to each
// milter, opened at its first MAIL, and no goroutine; the next MAIL tries again whatever happened before.
//
// A milter is shown at most 65,000 bytes of one field, since libmilter takes no more. Client names are not looked up:
// they are "unknown".
//
// The protocol is spoken by the package itself: the one library for it has no bound for what it reads and for how
// long, leaks the connection when negotiation or the good-bye fails, and does not know answers that skip the body.
package milter
