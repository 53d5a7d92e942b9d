// Package mailtls makes the TLS settings of the mail roles from three files: a certificate, its key and a CA.
//
// Clients see the certificate with ordinary server TLS. The link between a front end and a store is mutual TLS 1.3:
// each side proves a certificate that the CA signed, with the extended key usage of its side (clientAuth or
// serverAuth). Names and addresses in the store's certificate are not compared, because a LUN's address moves from
// server to server; who holds any certificate of this CA with serverAuth is trusted to be a store.
//
// Files are read once, by Load. Nothing has to be closed.
package mailtls
