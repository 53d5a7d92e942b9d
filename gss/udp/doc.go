// Package udp moves DNS messages between UDP sockets and a handler, in batches and without allocation.
//
// Each address that is listened on has several sockets, which share its port (SO_REUSEPORT): one a core is right. A socket
// has a goroutine that reads a batch (recvmmsg), has the handler's lane for that socket answer what it can at once, and sends
// the replies (sendmmsg). It blocks in the kernel: by way of Go's poller a query costs a third to a half more. A
// socket that is asked some ten thousand times a second or more waits a moment before it reads again, so that fewer wake-ups
// bring as many queries; Config.Gather says how long.
//
// What a lane calls slow goes through a bounded queue to a few workers; a query for which the queue is full is dropped and
// counted, so that no flood of hard queries delays the easy ones.
//
// A socket of an unspecified address replies from the address that was asked. No ICMP error, which anybody may forge, makes
// the kernel fragment replies: where a handler makes them of at most 1232 octets, none is a fragment.
//
// Queries are lost in no restart. The successor, of the same user, listens before the predecessor is told to end: from then
// on both get new queries. The predecessor first connects its sockets to nowhere, so that the kernel chooses them no more
// (since Linux 5.4), reads and answers what they hold until they are empty, waits for its slow queries, and closes them. If
// there is no successor, clients get ICMP errors at once, as from any port without a server.
//
// Listen opens the sockets, and Serve uses them until its context ends and closes them. Close is for a Server that never
// served. GOMAXPROCS should be larger than the number of sockets by two or more: a blocked goroutine keeps its P for a while,
// and what is computed beside it, such as a new table, and the collection of garbage should not take it.
package udp
