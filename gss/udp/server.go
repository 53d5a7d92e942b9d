package udp

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Server answers queries on UDP sockets.
type Server struct {
	cfg      Config
	handler  Handler
	sockets  []*socket
	free     chan *job // those that wait for a slow query
	jobs     chan *job // those that hold one
	stopping atomic.Bool
	stopped  chan struct{} // closed when stopping is set
	stopOnce sync.Once
}

// Listen opens all sockets, or none. From then on the kernel keeps queries for Serve. Errors wrap ErrConfig if the
// configuration is not as it must be.
func Listen(cfg Config, h Handler) (*Server, error) {
	if err := cfg.settle(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, handler: h, stopped: make(chan struct{})}
	s.free, s.jobs = make(chan *job, cfg.Queue), make(chan *job, cfg.Queue)
	for range cfg.Queue {
		s.free <- new(job)
	}
	for _, at := range cfg.Listen {
		for range cfg.Sockets {
			sock, err := openSocket(at, len(s.sockets), cfg.ReceiveBuffer)
			if err != nil {
				s.Close()
				return nil, err
			}
			s.sockets = append(s.sockets, sock)
			at = netip.AddrPortFrom(at.Addr(), sock.local.Port())
		}
	}
	return s, nil
}

// Addrs gives the addresses that are listened on, in the order of the configuration, with the ports that they have.
func (s *Server) Addrs() []netip.AddrPort {
	var list []netip.AddrPort
	for i := 0; i < len(s.sockets); i += s.cfg.Sockets {
		list = append(list, s.sockets[i].local)
	}
	return list
}

// Counters gives a snapshot for each socket. It may be called at any time, and by several goroutines.
func (s *Server) Counters() []Counters {
	list := make([]Counters, len(s.sockets))
	for i, sock := range s.sockets {
		list[i] = sock.counters()
	}
	return list
}

// Serve answers until ctx ends or a socket is of no more use, then what is left, and closes the sockets. It is called once.
// Its error is that of ctx, or tells what became of the socket.
func (s *Server) Serve(ctx context.Context) error {
	defer s.Close()
	release := context.AfterFunc(ctx, s.stop)
	defer release()
	var readers, workers sync.WaitGroup
	for range s.cfg.Workers {
		workers.Go(s.work)
	}
	errs := make([]error, len(s.sockets))
	for i, sock := range s.sockets {
		r := &reader{Server: s, sock: sock, lane: s.handler.Lane(i), b: newBatch(sock)}
		readers.Go(func() {
			if errs[i] = r.run(); errs[i] != nil {
				s.stop()
			}
		})
	}
	readers.Wait()
	close(s.jobs) // nobody is left who would put one in
	workers.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return ctx.Err()
}

// stop has the readers answer what they have and end.
func (s *Server) stop() {
	s.stopOnce.Do(func() {
		s.stopping.Store(true)
		close(s.stopped)
		for _, sock := range s.sockets {
			sock.wake()
		}
	})
}

// Close closes the sockets of a Server that does not serve.
func (s *Server) Close() {
	for _, sock := range s.sockets {
		sock.close()
	}
}
