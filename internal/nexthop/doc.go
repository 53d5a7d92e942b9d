// Package nexthop resolves the way to an address as a frame needs it: interface, MAC addresses, tags, MTU, our own
// address on that way. It asks the kernel, and follows what changes there through netlink subscriptions, so that no
// MAC address has to be in a config.
//
// A Resolver asks for neighbours that are not known, keeps the old MAC address while one is asked again, and reports all
// hops after each change. It decides nothing else and writes nothing. Run ends with its context.
package nexthop
