// Package screen judges who connects to an MX before it sees the banner.
//
// A source is an IPv4 address, or the /64 of an IPv6 one. It may have so many sessions at a time and begin so many each
// minute; more get 421. A stranger waits for the greet delay, and one who speaks meanwhile is no mail server: 554. While it
// waits, DNS block lists are asked (RFC 5782); when the weights of those that list it reach the threshold it gets 554 with
// the lists' names. A source that was let in is no stranger for a while, unless it hung up before the banner.
//
// A list that answers with an error code (127.255.255.x), with something that is no list's answer, or not at all has not
// listed anybody. Run tests each list again and again (RFC 5782 section 5): one that lists 127.0.0.1 lists everybody, and is
// left out until it no longer does.
//
// What is remembered of sources is bounded. Run waits for what it started; nothing else has to be closed.
package screen
