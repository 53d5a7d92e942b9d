// Package client is the client of the lab: it sees the company's mail only from outside, as a stranger's mail server
// and mail reader do, and writes down what it saw.
//
// Load opens a new connection to a VIP every few milliseconds, asks DNS names and connects to the answers, holds SMTP and
// IMAP sessions open, and sends mail, as a stranger and as users, that it repeats until it is acknowledged. Each thing seen
// is one Event, a line of JSON; the figures of a lab come from these lines and from nothing else. RoundTrip sends one message
// and reads it back; ReadBack compares mailboxes with what was acknowledged; Crowd fills a VIP with sessions.
//
// It runs inside a node of the lab, started by `anycastle lab client`, and knows nothing of the lab but its Targets: the
// addresses, names and mailboxes in its file, for one pod or several. It verifies every certificate. All functions return when
// they are done or their context is; nothing has to be closed.
package client
