// Package mx asks DNS where the mail for a domain goes (RFC 5321 section 5.1), and the few other questions of a sender.
//
// It asks recursive resolvers by UDP, and by TCP when a reply is cut. Package queue calls it; nothing has to be closed. It
// keeps no cache: a resolver has one. What the resolvers cannot tell now is never taken for "there is none".
package mx
