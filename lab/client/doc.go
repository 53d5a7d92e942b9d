// Package client is the client of the lab: it sees the company's mail only from outside, as a stranger's mail server
// and mail reader do, and writes down what it saw.
//
// Load opens a new connection to a VIP every few milliseconds, asks a DNS name and connects to the answer, holds
// sessions open, and sends mail that it repeats until it is acknowledged. Each thing seen is one Event, a line of
// JSON; the figures of a demo come from these lines and from nothing else. RoundTrip sends one message and reads it
// back; ReadBack compares mailboxes with what was acknowledged. It runs inside a node of the lab, started by
// `anycastle lab client`, and knows nothing of the lab around it. Load returns when its context is done; nothing has
// to be closed.
package client
