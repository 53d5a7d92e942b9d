package accept

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
)

// scripted gives one outcome after the other, and net.ErrClosed when they are used up.
type scripted struct {
	net.Listener
	outcomes []error
}

func (s *scripted) Accept() (net.Conn, error) {
	if len(s.outcomes) == 0 {
		return nil, net.ErrClosed
	}
	err := s.outcomes[0]
	s.outcomes = s.outcomes[1:]
	if err != nil {
		return nil, err
	}
	client, server := net.Pipe()
	client.Close()
	return server, nil
}

func TestLoop(t *testing.T) {
	full := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	broken := errors.New("broken")
	tests := []struct {
		name     string
		outcomes []error
		stopped  bool
		handled  int
		want     error
	}{
		{name: "closed at the end", outcomes: []error{nil, nil}, stopped: true, handled: 2},
		{name: "closed by somebody else", outcomes: []error{nil}, handled: 1, want: net.ErrClosed},
		{name: "out of files for a while", outcomes: []error{nil, full, full, nil, broken}, handled: 2, want: broken},
		{name: "out of files at the end", outcomes: []error{full}, stopped: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.stopped {
					cancel()
				}
				handled := 0
				err := Loop(ctx, &scripted{outcomes: tt.outcomes}, func(c net.Conn) {
					handled++
					c.Close()
				})
				if !errors.Is(err, tt.want) || handled != tt.handled {
					t.Errorf("handled %d connections, then %v; want %d, then %v", handled, err, tt.handled, tt.want)
				}
			})
		})
	}
}
