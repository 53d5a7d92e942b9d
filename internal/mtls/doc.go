// Package mtls makes a role's TLS settings from three files: a certificate, its key and a CA.
//
// Clients of a service see the certificate with ordinary server TLS. A link between two nodes is mutual TLS 1.3: each
// side proves a certificate that the CA signed, with the extended key usage of its side (clientAuth or serverAuth).
// Client also compares the name or address that was dialled with the server's certificate; ClientOfAny does not, for a
// service whose address moves from server to server: there, who holds any certificate of this CA with serverAuth is
// trusted.
//
// Files are read once, by Load. Nothing has to be closed.
package mtls
