// Package gssbench measures what a query over UDP costs: of the site selector, beside gdnsd, Knot, NSD and a
// plain handler of the DNS library, all with the same names, in one run, each on the same one core. `make bench-gss` runs it.
//
// The figure is the processor time that the kernel charges to the processes of a server, by the number of queries that it has
// answered. The servers run in a network namespace of their own and are asked in turn, in rounds, by dnsperf on another
// core: with a fixed number of queries a second, which is far less than any of them can answer, and with as many as can be.
// Over the loopback link the reception of a query is charged to who sends it and the reception of a reply to the server, for
// all servers alike. A figure of one run is compared only with others of the same run.
package gssbench
