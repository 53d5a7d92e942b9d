package real

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"anycastle/internal/mtls"
	"anycastle/lb/agent"

	"golang.org/x/sync/errgroup"
)

const (
	maxStreams = 32  // of reports at once: a site has fewer load balancers
	maxLists   = 2   // of flows at once: each may be of a million
	maxConns   = 256 // accepted at once, those without a certificate among them

	handshakeTime = 5 * time.Second
	writeTime     = 2 * time.Second  // for one report; who reads more slowly is dropped
	listTime      = 10 * time.Second // for a list of flows
	closeTime     = 2 * time.Second  // for the end of what is being answered
	sendBuffer    = 64 << 10         // of each connection, so that who does not read is found out soon

	defaultEvery = time.Second
	defaultFlows = 1000
)

// source is what the server tells of.
type source interface {
	report(age time.Duration) (r agent.Report, urgent uint64, err error)
	list(limit int) ([]agent.Flow, error)
}

// server answers load balancers.
type server struct {
	source  source
	look    time.Duration // between two looks for one reader; 0: agent.MinEvery
	healthy func() error
	log     *slog.Logger

	streams atomic.Int32
	lists   atomic.Int32
}

// listenAgent opens the socket of the agent and reads what it proves itself with.
func listenAgent(ctx context.Context, cfg AgentConfig, log *slog.Logger) (net.Listener, error) {
	material, err := mtls.Load(cfg.TLS, log)
	if err != nil {
		return nil, err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("listen for load balancers (real.agent.listen): %w; stop what listens there, or give another address or port", err)
	}
	return tls.NewListener(&boundedListener{Listener: ln, free: make(chan struct{}, maxConns)}, material.Server()), nil
}

// run serves until ctx is done, and waits for all that it has begun. It closes ln.
func (s *server) run(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/report", s.serveReports)
	mux.HandleFunc("GET /v1/flows", s.serveFlows)
	mux.HandleFunc("GET /healthz", s.serveHealth)
	var http1 http.Protocols
	http1.SetHTTP1(true)
	var conns sync.WaitGroup // Shutdown and Close do not wait for handlers
	defer conns.Wait()
	g, ctx := errgroup.WithContext(ctx)
	srv := &http.Server{
		Handler:           mux,
		Protocols:         &http1,
		ReadHeaderTimeout: handshakeTime,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // whoever connects can fill it
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew: // Serve says so before it takes the next one
				conns.Add(1)
			case http.StateClosed: // the last that is done for a connection
				conns.Done()
			}
		},
	}
	g.Go(func() error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve load balancers: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		if srv.Shutdown(soon) != nil { // somebody is slow
			srv.Close()
		}
		return nil
	})
	return g.Wait()
}

func (s *server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	if err := s.healthy(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *server) serveReports(w http.ResponseWriter, r *http.Request) {
	every := defaultEvery
	if text := r.URL.Query().Get("every"); text != "" {
		var err error
		every, err = time.ParseDuration(text)
		if err != nil || every < agent.MinEvery || every > agent.MaxEvery {
			http.Error(w, fmt.Sprintf("every is a duration from %v to %v", agent.MinEvery, agent.MaxEvery), http.StatusBadRequest)
			return
		}
	}
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		http.Error(w, fmt.Sprintf("%d load balancers read reports already", maxStreams), http.StatusServiceUnavailable)
		return
	}
	defer s.streams.Add(-1)
	w.Header().Set("Content-Type", "application/jsonl")
	err := s.stream(r.Context(), w, every)
	s.log.Debug("load balancer went", "peer", r.RemoteAddr, "err", err)
}

// stream sends reports until the reader goes, or is too slow.
func (s *server) stream(ctx context.Context, w http.ResponseWriter, every time.Duration) error {
	out := http.NewResponseController(w)
	look := max(s.look, agent.MinEvery)
	tick := time.NewTicker(look)
	defer tick.Stop()
	var sent time.Time
	var seen uint64
	for {
		// a little less than the gap, so that two streams do not both find the report of the other one just too old
		r, urgent, err := s.source.report(look / 2)
		if err != nil {
			s.log.Warn("make a report", "err", err)
			return err // a reader that gets nothing knows that nothing is known
		}
		if urgent != seen || time.Since(sent) >= every {
			line, err := r.Line()
			if err != nil {
				return err
			}
			sent, seen = time.Now(), urgent
			out.SetWriteDeadline(sent.Add(writeTime))
			if _, err := w.Write(line); err != nil {
				return err
			}
			if err := out.Flush(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (s *server) serveFlows(w http.ResponseWriter, r *http.Request) {
	limit := defaultFlows
	if text := r.URL.Query().Get("limit"); text != "" {
		var err error
		limit, err = strconv.Atoi(text)
		if err != nil || limit < 1 || limit > agent.MaxFlows {
			http.Error(w, fmt.Sprintf("limit is a number from 1 to %d", agent.MaxFlows), http.StatusBadRequest)
			return
		}
	}
	defer s.lists.Add(-1)
	if s.lists.Add(1) > maxLists {
		http.Error(w, fmt.Sprintf("%d lists of flows are made already; ask again", maxLists), http.StatusServiceUnavailable)
		return
	}
	list, err := s.source.list(limit)
	if err != nil {
		s.log.Warn("list flows", "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(listTime))
	if err := json.NewEncoder(w).Encode(list); err != nil {
		s.log.Debug("load balancer went", "peer", r.RemoteAddr, "err", err)
	}
}

// boundedListener closes at once what comes while as many connections as may be are open: they hold memory before they
// have proved anything.
type boundedListener struct {
	net.Listener
	free chan struct{}
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			if t, ok := c.(*net.TCPConn); ok {
				t.SetWriteBuffer(sendBuffer)
			}
			return &boundedConn{Conn: c, done: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			c.Close()
		}
	}
}

type boundedConn struct {
	net.Conn
	done func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	defer c.done()
	return c.Conn.Close()
}
