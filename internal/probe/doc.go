// Package probe checks from outside whether a target answers, and turns results into a state with pass and fail
// counts and a failure window. The VIP load balancer, the global site selector and the mail front ends share it.
//
// Counter is the pure part: results in, state out. Runner is the loop around it: it probes every target at its interval
// and reports each result with the state after it. The first probes of targets that come together start within a
// tenth of their interval; later ones keep their places, which spread over all of it within the first ten gaps, in groups of
// targets that are probed at the same moments. The
// owner may change the targets while the Runner runs, and have some probed before their turn. A probe returns an error; nil
// means healthy, and the error is the reason: short, printable, and with nothing in it that a target could use to deceive a
// terminal or a log.
//
// The types of probes, and what passes:
//
//	icmp         an echo reply (IPv4 and IPv6; an unprivileged socket where it is allowed, else a raw one)
//	tcp          a connection, which is reset at once
//	tls          a handshake with a certificate that is believed and valid for long enough
//	http, https  a reply over HTTP/1.1 with an expected status, and with a text in its body if one is given
//	smtp         banner, EHLO, STARTTLS or implicit TLS if wanted, and a recipient that is accepted if one is given
//	lmtp         the same with LHLO
//	imap         greeting, STARTTLS or implicit TLS if wanted, and LOGIN and SELECT if a user is given
//	dns          a reply to a query with an expected code, and an answer if one is given
//	exec         a program that exits with 0; it finds the target in ANYCASTLE_PROBE_ADDRESS, _PORT, _VIP and _MARK
//	agent-check  an agent that speaks HAProxy's agent-check protocol and does not call itself down. Its weight, and its
//	             ready, drain and maint, come with the result. An agent that is not reached has failed.
//
// Everything that a target sends is read up to a bound and a deadline. A target that has a mark is probed with it on
// every socket (SO_MARK), so that a program on the way out can tell the packets of one probe from those of another; exec
// is told the mark and has to set it itself. Connections are closed by a reset, after the protocol's own farewell, so that no port waits.
//
// Files that a config names are read when its targets are set. Nothing has to be closed; Run ends with its context and
// leaves no probe, socket or process behind.
package probe
