// Package imapfront is the IMAP front end: it speaks with a client until login, then joins it to its store.
//
// Before login it knows CAPABILITY, ID, NOOP, STARTTLS, LOGIN, AUTHENTICATE PLAIN and LOGOUT, and takes a password only
// over TLS. It checks the password itself, opens a session at the store of the user's LUN over mutual TLS with SASL
// EXTERNAL, repeats the store's tagged OK to the client, and from there on copies bytes both ways and looks at none.
// If the store cannot be reached the client gets NO [UNAVAILABLE] and may try again.
//
// Everything a client can send before login is bounded: lines, literals, wrong passwords, bad commands and time.
// No password or what a client sent is ever logged.
//
// Run serves until its context ends. While clients are logged in that takes 5 s, since nothing tells whether one is idle;
// the log says so.
package imapfront
