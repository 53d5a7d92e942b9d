package lbbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// server greets each connection with one byte, and then echoes.
type server struct {
	ln    net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]bool
}

// serve listens on port 25 of every address of a host, the VIP among them.
func (s *site) serve(host string) *server {
	s.t.Helper()
	v := &server{conns: map[net.Conn]bool{}}
	s.hosts[host].Do(func() (err error) {
		cfg := net.ListenConfig{}
		v.ln, err = cfg.Listen(context.Background(), "tcp4", ":25")
		return err
	})
	v.wg.Go(func() {
		for {
			c, err := v.ln.Accept()
			if err != nil {
				return
			}
			v.keep(c, true)
			v.wg.Go(func() {
				defer v.keep(c, false)
				defer c.Close()
				if _, err := c.Write([]byte{'!'}); err == nil {
					io.Copy(c, c) // ends with the connection
				}
			})
		}
	})
	s.t.Cleanup(v.stop)
	return v
}

func (v *server) keep(c net.Conn, yes bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if yes {
		v.conns[c] = true
	} else {
		delete(v.conns, c)
	}
}

func (v *server) stop() {
	v.ln.Close()
	v.mu.Lock()
	for c := range v.conns {
		c.Close()
	}
	v.mu.Unlock()
	v.wg.Wait()
}

// connect opens a connection from the client and waits for the greeting.
func (s *site) connect(d *net.Dialer, target string) (net.Conn, error) {
	c, err := d.Dial("tcp4", target)
	if err != nil {
		return nil, err
	}
	if err = c.SetDeadline(time.Now().Add(answerTime)); err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func dialer() net.Dialer { return net.Dialer{Timeout: answerTime, Control: resetOnClose} }

// answerTime is how long a connection may be without an answer before it counts as broken. TCP repeats a segment four
// times in it.
const answerTime = 10 * time.Second

// onThreads runs f in so many goroutines, each on a thread in the client's namespace, and waits for them.
func (s *site) onThreads(n int, f func(i int) error) {
	s.t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { s.client.Do(func() error { errs[i] = f(i); return nil }) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		s.t.Fatal(fmt.Errorf("on the client: %w", err))
	}
}
