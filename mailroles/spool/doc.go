// Package spool keeps a message body between its arrival and its delivery.
//
// A small body stays in memory; a larger one goes to a temporary file that has no name, so that nothing is left
// behind by a crash and many large messages do not fill the memory. A Spool must be closed.
package spool
