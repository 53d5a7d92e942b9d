// Package remote hands one message to one foreign SMTP server (RFC 5321) and tells what that said of each recipient.
//
// It says EHLO, else HELO; uses STARTTLS where it is offered, SIZE, 8BITMIME, SMTPUTF8 and DSN; and AUTH PLAIN where it is
// given a password, which it sends by verified TLS only. It converts nothing: an 8-bit message for a server that takes 7 bits
// is refused, because a conversion would break its DKIM signature. It does not send commands ahead (PIPELINING), nor a second
// message on a connection.
//
// What a server sends is bounded in length and time. A server that lost the connection after the end of the message may have
// taken it: that is Unsure, and who sends again then may send twice, which SMTP cannot avoid (RFC 5321 section 6.1).
package remote
