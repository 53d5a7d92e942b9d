package lbbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// server greets each connection with one byte, the last of its host's name, and then echoes.
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
				greetAndEcho(c, host[len(host)-1])
			})
		}
	})
	s.t.Cleanup(v.stop)
	return v
}

// greetingEnv makes a process of this test's binary a server that greets with its value.
const greetingEnv = "LBBENCH_GREETING"

// serveApart is serve in a process of its own: one process may not have as many sockets as both ends of many connections.
func (s *site) serveApart(host string) *process {
	s.t.Helper()
	p := s.prepare(host, os.Args[0])
	p.cmd.Env = append(os.Environ(), greetingEnv+"="+host[len(host)-1:])
	s.hosts[host].Do(p.cmd.Start)
	s.t.Cleanup(func() { p.stop(syscall.SIGKILL) })
	return p
}

// runServer never returns.
func runServer(greeting byte) {
	ln, err := net.Listen("tcp4", ":25")
	for err == nil {
		var c net.Conn
		if c, err = ln.Accept(); err == nil {
			go func() {
				defer c.Close()
				greetAndEcho(c, greeting)
			}()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// greetAndEcho ends with the connection. io.Copy would open a pipe for each.
func greetAndEcho(c net.Conn, greeting byte) {
	buf := make([]byte, 64)
	buf[0] = greeting
	for n := 1; ; {
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
		var err error
		if n, err = c.Read(buf); err != nil {
			return
		}
	}
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
	c, _, err := greeted(d, target)
	return c, err
}

// greeted opens a connection and gives what it was greeted with.
func greeted(d *net.Dialer, target string) (c net.Conn, greeting byte, err error) {
	if c, err = d.Dial("tcp4", target); err != nil {
		return nil, 0, err
	}
	var b [1]byte
	if err = c.SetDeadline(time.Now().Add(answerTime)); err == nil {
		_, err = io.ReadFull(c, b[:])
	}
	if err != nil {
		return nil, 0, errors.Join(err, c.Close())
	}
	return c, b[0], nil
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
