// Package probe checks from outside whether a target answers, and turns results into a state with pass and fail
// counts. The VIP load balancer and the global site selector share it.
//
// Counter is the pure part: results in, state out. Run is the loop around it: it probes every target at its interval,
// the targets spread over the first tenth of it, and reports each result with the state after it. A probe returns
// an error; nil means healthy, and the error is the reason.
//
// In this version a probe is a TCP connect. Nothing has to be closed; Run ends with its context.
package probe
