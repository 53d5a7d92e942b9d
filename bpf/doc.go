// Package bpf holds the XDP and TC programs and loads, attaches and pins them. It knows no role.
//
// lb.c runs on the uplink of a load balancer: it finds the VIP of a packet, hashes the flow to a slot of the VIP's farm,
// and sends the packet to the real named there: IP in IP of any two families, GUE, or another MAC address. In a slot in
// transition, where the real of new flows is not that of established ones, it names both to an agent (GUE), or tracks
// new flows in a table that is empty otherwise. It answers echo requests for VIPs in service and packets that would be too
// big, takes ICMP errors to the real whose flow they are about, and keeps fragments together. real.c runs on the uplink
// of a real and takes the outer header off, or sends the packet on to the second real that it names when that has the
// flow. What a program refuses it drops and counts under an enum reason; what is none of its business it passes to the
// kernel.
//
// watch.c holds two TC programs for the two directions of a real's uplink, which count what becomes of new connections.
// They are filters in the kernel's own tables, on a clsact qdisc, and not links: LoadWatch takes over their maps, Attach
// puts new ones in their place, and only Detach takes them away, with the qdisc if it was made for them.
//
// LoadLB and LoadReal load a program and its maps; Attach puts it on interfaces. Maps and links are pinned in a
// directory that the caller names, so that packets flow on while the process is restarted or dead: the next Load finds
// the maps filled, and Attach replaces the program in place. Maps of another version may have another shape; then Load
// makes new ones, and Attach leaves the program that is there until the caller has filled them and calls TakeOver. Flows
// that were tracked in a transition are not carried over. Close releases what the process holds and leaves the pins;
// Unload removes the pins, which takes the programs off the interfaces. A directory belongs to one network namespace, and to one
// process at a time: Load locks it until Close.
//
// The maps' contents are the callers' business: packages lb and lb/real write them.
//
// A packet that leaves by the interface it came in by leaves by XDP_TX, which the driver does itself; by another, or
// with RealRedirect, by bpf_redirect. The kernel may drop a redirected frame after the program, where Drops does not see
// it: the far end of a veth must have GRO switched on while it is up, or a program; another driver must have
// ndo_xdp_xmit. An interface that is deleted under the program and made again is without it until Attach is called.
//
// Kernel 6.1 or later; CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; a bpf file system. The objects *_bpfel.o are committed
// and reproducible with clang 14.
package bpf
