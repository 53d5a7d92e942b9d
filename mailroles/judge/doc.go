// Package judge holds a message against what its sender's domain says in DNS: SPF (RFC 7208) of the client's address, DKIM
// (RFC 6376) of the message's signatures, and DMARC (RFC 7489), which wants one of them to speak for the domain in From.
//
// What it finds goes on top of the message as one Authentication-Results field (RFC 8601). With enforce set, a message that
// fails DMARC is refused, or kept apart in the folder Quarantine, as the domain asks; and one that cannot be judged since DNS
// does not answer is put off with 451. Otherwise nothing is refused.
//
// A Judge is safe for concurrent use. Nothing has to be closed.
package judge
