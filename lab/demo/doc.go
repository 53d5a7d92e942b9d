// Package demo is the main job on one screen: mail through one VIP while servers and a site fail.
//
// Run builds a lab of the two-site topology, sends mail and reads it back, puts a client under way, breaks things one
// after another and says what the client saw. Every figure comes from the client's own log; rows.go computes them and
// is pure. Run removes the lab when it ends, whatever the reason, and leaves the client's log in a folder that it
// names.
package demo
