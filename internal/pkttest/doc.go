// Package pkttest makes packets for tests of XDP programs, and shows the difference between two of them.
//
// New, NewUDP, NewEcho and NewICMPError give one valid packet, IPv4 or IPv6 by the addresses; a test changes one field
// of it and asks for the bytes. Lengths and checksums are right unless the test says otherwise afterwards, in the bytes.
// Tags, extension headers, a tunnel around the packet and bytes behind it are fields of the same Frame; Fragments cuts
// it. The package sends nothing.
package pkttest
