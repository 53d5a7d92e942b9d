// Package mtls makes a role's TLS settings from three files: a certificate, its key and a CA.
//
// Clients of a service see the certificate with ordinary server TLS, or that of a Pair, which may be of a public CA. A
// link between two nodes is mutual TLS 1.3: each side proves a certificate that the CA signed, with the extended key
// usage of its side (clientAuth or serverAuth). Client also compares the name or address that was dialled with the
// server's certificate; ClientOfAny does not, for a service whose address moves from server to server: there, who holds
// any certificate of this CA with serverAuth is trusted.
//
// The files may be replaced while a process runs: each handshake looks whether one has changed, and then reads them all
// again. What cannot be read, or does not fit yet, is told of and takes the place of nothing. A connection that is open
// goes on, whatever the files say later. Nothing has to be closed.
package mtls
