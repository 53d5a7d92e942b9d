package accept

import (
	"context"
	"errors"
	"net"
	"time"
)

// breather is how long a listener that has run out of files waits for some to be closed.
const breather = 10 * time.Millisecond

// Loop hands each connection to handle, which must not block. It returns nil once ctx is done and ln is closed, and
// outlives passing errors such as too many open files.
func Loop(ctx context.Context, ln net.Listener, handle func(net.Conn)) error {
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			handle(conn)
		case errors.Is(err, net.ErrClosed) && ctx.Err() != nil:
			return nil
		case passes(err):
			select {
			case <-time.After(breather):
			case <-ctx.Done():
				return nil
			}
		default:
			return err
		}
	}
}

// passes says whether Accept may do better later.
func passes(err error) bool {
	var passing interface{ Temporary() bool }
	return errors.As(err, &passing) && passing.Temporary()
}
