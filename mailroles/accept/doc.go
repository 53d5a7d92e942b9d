// Package accept is what the servers of mailroles have in common before a session begins: the accept loop, and the PROXY
// protocol, which tells who connected to whoever connects to us.
//
// Proxied is for front ends: only the proxies that it is told of may send a header, and they must. Linked is for a store,
// to which front ends send one before TLS. Both give a listener whose connections have the client's address as their
// RemoteAddr; Header makes what such a listener reads. The listeners are closed by their Close, nothing else has to be.
package accept
