// Package flowhash gives the hash that the balancer's program takes of a flow, and the slot that it leads to.
//
// The hash is SipHash-1-3 under the farm's key, so that nobody without the key can aim flows at one real. Of sees the
// whole flow; OfSource sees the source address alone, for a VIP whose clients shall reach one real by all their flows.
// The functions are pure and allocate nothing.
package flowhash
