// Package sockets counts what a server's kernel holds for its VIPs: who listens, how full the queue of connections is
// that wait to be accepted, how many were dropped, and which flows there are.
//
// It asks the kernel by socket diagnosis (NETLINK_SOCK_DIAG), and has it leave out, by a filter that the kernel runs,
// what is none of the VIPs': a server may have sockets of other work. IPv4 that an IPv6 socket serves counts as IPv4.
//
// A Reader must not be used by several goroutines at a time. It holds no socket between two calls: nothing has to be
// closed. A call asks about the network namespace of the thread that it runs on.
package sockets
