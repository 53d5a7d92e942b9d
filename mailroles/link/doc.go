// Package link hands mail to stores: a Pool of LMTP connections (RFC 2033) over mutual TLS to each address that takes
// mail, used by the MX and by submission.
//
// What only our own servers need to know of a message travels as fields in the ENVID parameter of MAIL (see Fields), and
// who sent it in AUTH (RFC 4954 section 5). A server believes them because the peer has proved itself by its certificate.
//
// Commands go out in one piece and their replies are read after it (RFC 2920), so that a message costs two round trips. A
// connection that was idle may have ended unseen: when its first replies do not come, the commands are said again on a
// new connection.
//
// A LUN may move to another store of its replicas, planned or not. So what ends with a connection that fails, with no answer,
// or with 4.3.2 is tried again for 8 s, for the recipients without a result and with the same transaction id, by which stores
// know a message that comes again. Only then the caller is told, and decides.
//
// A Pool must be closed.
package link
