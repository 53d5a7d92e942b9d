package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The ports that a load connects from, and how many of them it tries for one connection.
const (
	firstPort = 10000
	numPorts  = 1<<16 - firstPort
	portTries = 1000
)

// ports hands out the load's own ports, one after the other. The kernel goes through its own in steps, so that a load's
// hundred connections a second come round in less than a minute. By then a site that was lost still knows the ports of the
// connections that it had: a new one with such a port, moved there in its midst, is taken for the old one, and gets no answer
// for minutes where any other gets RST. Real clients are many, and one seldom has the same port again so soon. A nil *ports
// leaves the choice to the kernel.
type ports struct{ last atomic.Uint32 }

// newPorts begins anywhere: the servers of the lab may know the ports of an earlier load, too.
func newPorts() *ports {
	p := &ports{}
	p.last.Store(rand.Uint32N(numPorts))
	return p
}

func (p *ports) dial(ctx context.Context, d net.Dialer, addr string) (net.Conn, error) {
	if p == nil {
		return d.DialContext(ctx, "tcp", addr)
	}
	for tries := 1; ; tries++ {
		d.LocalAddr = &net.TCPAddr{Port: firstPort + int(p.last.Add(1)%numPorts)}
		conn, err := d.DialContext(ctx, "tcp", addr)
		if !isTaken(err) || tries == portTries {
			return conn, err
		}
	}
}

// isTaken says whether a port is that of another socket of this machine.
func isTaken(err error) bool {
	return errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL)
}
