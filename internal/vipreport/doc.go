// Package vipreport is what a balancer tells site selectors of its VIPs, and how it is written. Package lb writes it,
// package gss/balancer reads it.
//
// It travels over TCP with mutual TLS (package internal/mtls) and the application protocol Protocol: the balancer speaks
// as soon as the handshake is done, one JSON object a line, and the site selector never does. First come all VIPs, then
// those that change, as soon as they do, and all of them again each Beat, as a sign of life. A balancer that does not know
// yet how its VIPs stand says that it has none.
//
// What is read is taken strictly: an unknown key, a value that cannot be, or more than the bounds allow is an error. A
// report that says something new will come under another protocol.
package vipreport
