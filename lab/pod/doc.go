// Package pod renders the big labs: from a short plan (sites, pods, how many of what) the files of a topology folder.
//
// A pod is everything that a set of mailboxes needs: balancers, front ends and stores at each site, VIPs of its own, LUNs of its
// own. Render is a pure function, but for secrets when the plan has no seed: numbers, addresses and names follow from the plan
// alone, so that two renderings of one plan with a seed are the same, byte by byte. Nothing has to be closed.
//
// How things are numbered: site S is the S-th of the plan, from 1. It has the block 198.51.100.64·(S-1)/26, in which each node has
// one address on lo: core1 .1, core2 .2, gss .5, monitor .6, and the nodes of pod P from .16·P on. Node n has links 10.S.C.2n/31 to
// core router C. A pod's shared VIPs are 203.0.113.25, .87 and .143 plus P-1; those of site S alone 203.0.113.100·(P-1)+10·S plus 1
// (SMTP), 2 (IMAP) and 3 (submission). The address of a LUN is 198.51.100.192+16·(P-1) plus its number.
package pod
