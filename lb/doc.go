// Package lb is the VIP load balancer's control plane: `anycastle lb` runs it.
//
// It probes the reals of each farm through the data path, decides from the config, what probes, agents, next hops and
// operators say, and what other LBs of the site know, which state each real is in, computes from these states which reals
// take which slots (weighted rendezvous), and brings the XDP program's maps to that in an order in which no packet meets
// half of a change. It tells an Announcer how well each address of a VIP is served: what is worse before the maps change, what
// is better after they hold it, and all of it each second, so that one that hangs is noticed. The Announcer decides.
//
// The package forwards no packet itself: package bpf does, and goes on doing it while this process is restarted or
// dead. It speaks no routing protocol: the caller joins it to an Announcer.
//
// A slot has a real for new flows and one for established flows. They differ while a real joins or drains or a weight
// changes, for the farm's transition time; a flow keeps its real for as long, unless that fails. With second chances this
// holds while one real of a farm at a time is in transition: a packet carries two reals, and no third.
//
// A real whose packets would leave by a link that takes no frames from XDP is failed, and a warning logged: the kernel
// would drop them without a sign. Kernels before 6.3 do not tell; there nothing warns. An uplink that is deleted and
// made again needs a restart of the process.
//
// State and orders are kept in a mesh.Map, which is a file of its own (Config.StateDir) and, with a mesh, the same for all
// LBs of the site: order/FARM/REAL, of which the last counts, and state/LB/FARM/ADDRESS, each LB's own view.
//
// Site selectors may listen to how the VIPs stand (report.go, reportserver.go; package internal/vipreport), and HAProxy and
// others ask for it in one line (agentcheck.go). If the loop hangs they are told nothing. What they are told follows the loop's decisions and, if the Announcer is a
// Router, what routers have.
//
// Pure are state.go (states), score.go, rendezvous.go and calibrate.go (slot tables), inputs.go, desired.go and
// place.go (what follows for the maps), choice.go (what the program makes of the maps for a flow), predict.go and
// diff*.go (what another config would move). reconcile.go turns the difference between what is installed and what is
// desired into ordered steps. dataplane.go is the only file that writes maps. loop.go is the one goroutine that
// decides; it is told by events. LB.Run owns everything it starts and ends with its context; nothing has to be closed.
package lb
