// Package judge holds a message against what its sender's domain says in DNS: SPF (RFC 7208) of the client's address, DKIM
// (RFC 6376) of the message's signatures, and DMARC (RFC 7489), which wants one of them to speak for the domain in From.
//
// What it finds goes on top of the message as one Authentication-Results field (RFC 8601). With enforce set, a message that
// fails DMARC is refused, or kept apart in the folder Quarantine, as the domain asks; one that does not claim to be from one
// domain is kept apart, since a reader may take it for anybody's (RFC 7489 section 6.6.1); and one that cannot be judged since
// DNS does not answer is put off with 451. Otherwise nothing is refused but a header of more than 1 MiB or 10,000 fields.
//
// A Judge is safe for concurrent use. Nothing has to be closed.
package judge
