// Package gssbench looks at site selectors through resolvers of others, from Debian's packages: Unbound, BIND, Knot Resolver,
// PowerDNS Recursor and dnsmasq. Everything is in namespaces: three places with a site selector each, the built binary, two of
// them with a VIP; and resolvers, each with a client on its host. `make bench-gss` measures how long after a site has died
// without a sign clients are still given its address, and goes through the cases in which nobody may ever be given an error,
// with all five. The tests do the latter with two of them.
//
// All hosts hang on one router, which loses what it is told to lose.
package gssbench
