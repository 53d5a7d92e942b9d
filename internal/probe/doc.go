// Package probe checks from outside whether a target answers, and turns results into a state with pass and fail
// counts and a failure window. The VIP load balancer, the global site selector and the mail front ends share it.
//
// Counter is the pure part: results in, state out. Runner is the loop around it: it probes every target at its interval
// and reports each result with the state after it. The first probes of targets that come together start within a
// tenth of their interval; later ones keep their places, which spread over all of it within the first ten gaps. The
// owner may change the targets while the Runner runs. A probe returns an error; nil means healthy, and the error is
// the reason: short, printable, and with nothing in it that a target could use to deceive a terminal or a log.
//
// In this version a probe is a TCP connect. A target that has a mark is probed with it on every socket (SO_MARK), so
// that a program on the way out can tell the packets of one probe from those of another. Nothing has to be closed;
// Run ends with its context and leaves no probe behind.
package probe
