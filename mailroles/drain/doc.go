// Package drain takes a mail role out of service without breaking off what it is at, and puts it back.
//
// A role is serving, draining or stopped. On an order, or at the end of its process, it first says on its agent listener
// that it drains, and goes on as before for drain_lead, so that load balancers send nothing new by then. Then it lets
// nobody in any more, and its sessions end where that does no harm; the server that it is made of sees to that, and cuts
// off at drain_deadline what is left. Until then its sockets stay open, and tell who comes that it is going away: a
// balancer whose probe were refused would take the role for dead, and break off sessions that are about to end by
// themselves. After an order the process then waits for another one, to serve again.
//
// The agent listener speaks HAProxy's agent-check, which package probe reads: "ready up", "up drain", "maint", or
// "ready down" with the reason.
//
// A Drainer is used for one Run, which gives back all that it has opened. Its other methods may be called at any time.
package drain
