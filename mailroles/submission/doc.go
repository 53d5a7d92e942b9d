// Package submission takes mail from users who have logged in (RFC 6409): Handler decides what they may send and hands it on,
// Login says who they are. The submission role serves both with smtpd; they start nothing, and nothing has to be closed.
//
// A user sends as what the directory says is his: the sender of MAIL, and every address in From and Sender. The sender may be
// empty, as a receipt's is. Recipients in domains of ours are resolved, and the stores are asked, before RCPT is answered;
// their mail goes to their stores at once. For all others the message goes to the queue on the sender's LUN. Only when all
// of these have it on disk is it answered with 250. When one does not, it is 451 for all: a client repeats the message, and
// those who have it know it by its transaction id. It is refused for good only when all of these do so. A message without
// Message-ID has no id, so some may get it twice.
//
// A message gets Date and Message-ID when it has none, and loses Bcc and Return-Path. The Received field on top says that a
// user who had logged in sent it over TLS, and not from where: who reads a message need not know where its sender sits. The
// log tells it, by the id that is in the field. A message is signed with every DKIM key of the domain in From (RFC 6376, RFC
// 8463), relaxed/relaxed; a field that is signed may not be added later, be it there or not (see signed).
//
// Guesses at passwords are slowed down by package throttle, which also bounds how many messages an account may send in an hour.
package submission
