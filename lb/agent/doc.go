// Package agent is what a real tells its load balancers, and how it is written: reports of what becomes of connections
// to the VIPs, and lists of flows. Package lb/real writes them, package lb reads them.
//
// They travel as JSON over HTTP with mutual TLS (package internal/mtls):
//
//	GET /v1/report?every=50ms   one report at once, and then one a line each so often, or earlier when something was
//	                            refused, reset or dropped; until the client goes
//	GET /v1/flows?limit=1000    a list of flows
//	GET /healthz                200, or what is wrong
//
// What is read is taken strictly: an unknown key, a value that cannot be, or more than the bounds allow is an error. A
// report that says something new will come under another path.
package agent
