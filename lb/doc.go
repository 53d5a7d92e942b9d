// Package lb is the VIP load balancer's control plane: `anycastle lb` runs it.
//
// It probes the reals of each farm, computes from the config and what the probes say which reals take which slots
// (weighted rendezvous), and brings the XDP program's maps to that state in an order in which no packet meets half of
// a change. It announces the address of a VIP through an Announcer while every VIP on the address has enough reals in
// service, after the maps hold them, and withdraws it before they are emptied.
//
// The package forwards no packet itself: package bpf does, and goes on doing it while this process is restarted or
// dead. It speaks no routing protocol: the caller joins it to an Announcer. In this version VIPs and reals are IPv4.
//
// A real whose packets would leave by a link that takes no frames from XDP is failed, and a warning logged: the kernel
// would drop them without a sign. Kernels before 6.3 do not tell; there nothing warns. An uplink that is deleted and
// made again needs a restart of the process.
//
// desired.go and rendezvous.go are pure. reconcile.go turns the difference between what is installed and what is
// desired into ordered steps. dataplane.go is the only file that writes maps. LB.Run owns
// everything it starts and ends with its context; nothing has to be closed.
package lb
