// Package imapfront is the IMAP front end: it speaks with a client until login, then joins it to its store. It keeps
// nothing, so any number of front ends may serve the same mailboxes.
//
// Before login it knows CAPABILITY, ID, NOOP, STARTTLS, LOGIN, AUTHENTICATE PLAIN and LOGIN, and LOGOUT, and takes a
// password only over TLS. It checks the password itself, opens a session at the store of the user's LUN over mutual TLS
// with SASL EXTERNAL, repeats the store's tagged OK to the client, and from there on copies bytes both ways. The store is
// told who the client is by a PROXY header (version 2) ahead of TLS; a store that does not know of it takes such a
// connection for a broken one, so stores are to be upgraded before front ends. A LUN may be without an active store for some
// seconds: a login waits for one. If none can be reached within 8 s the client gets NO [UNAVAILABLE] and may try again.
//
// Of a session that is joined, it follows where the store's lines and literals end, and which commands are without their
// answer. So a session can be ended with BYE when no command is at work, or else between two lines, and the client
// connects again, to the right store: when the directory has its mailbox on another LUN or not at all, when the store goes
// away, and at the end of Run. In the middle of a line a session is only cut off, with no word.
//
// A store that is to hand its LUN over asks for its sessions (see package link). Each is then taken to the store that the LUN's
// address leads to next, between two commands or in IDLE, which is ended at the one and begun again at the other. The client
// notices nothing: what it says meanwhile waits.
//
// Everything a client can send before login is bounded: lines, literals, wrong passwords, bad commands and time.
// No password or what a client sent is ever logged.
//
// An idle session takes less than 30 kB: see BenchmarkIdleSessions. A session that has moved a large mail holds what TLS
// took to read its largest record, up to 33 kB a side, until it ends.
package imapfront
