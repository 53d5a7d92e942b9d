// Package daemon runs one role as one process: signals, the status socket, and a clean end.
//
// Run serves HTTP on the role's Unix socket (RUNDIR/ROLE.sock): the role's own handlers, /healthz and /metrics. It
// starts the role's tasks, waits for all of them, and cancels the rest when one of them ends with an error or a
// signal comes. SIGTERM and SIGINT end the process cleanly. A service manager that asks to be notified (systemd's
// Type=notify) is told when the role is ready, and when it ends. The package knows no role.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// DefaultRunDir is where the status sockets are unless a process is told otherwise.
const DefaultRunDir = "/run/anycastle"

// socketTime bounds one request on the status socket.
const socketTime = 5 * time.Second

// lockTime bounds the wait for other roles of a run directory that start at the same time.
const lockTime = 10 * time.Second

// Process describes one role process.
type Process struct {
	Role     string               // "lb"; names the socket
	RunDir   string               // DefaultRunDir when empty
	Log      *slog.Logger         // required
	Registry *prometheus.Registry // metrics of the role; nil: only those of the Go runtime and the process
	Status   map[string]func() any
	// Status maps a path such as "/v1/vip" to what is asked for there; the answer is JSON. Each function must be safe
	// for concurrent use.

	// Handlers are what Status cannot say: changes and streams, by pattern such as "POST /v1/order". A stream lifts its own
	// write deadline (http.ResponseController).
	Handlers map[string]http.HandlerFunc

	// Ready is closed when the role does its job for the first time. A service manager is told then. Nil: it does from the start.
	Ready <-chan struct{}

	// Healthy answers /healthz: nil means that the role does its job. Nil function: always healthy.
	Healthy func() error

	// Reload reads the config again and applies it, or keeps the old one and says why. SIGHUP and POST /v1/reload call it,
	// one call at a time. Nil: the role cannot reload.
	Reload func(ctx context.Context) error
	// Reloaded is told how each reload ended; nil: nobody is. The metrics anycastle_reload_refused and anycastle_reload_time_seconds
	// tell it too.
	Reloaded func(Reload)
}

// Task is one long-lived part of a role. It returns when ctx is done; an error ends the whole process.
type Task func(ctx context.Context) error

// Run runs the tasks until ctx is done, a signal comes or a task fails, and waits for all of them.
func Run(ctx context.Context, p Process, tasks ...Task) error {
	told, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ln, err := listen(p.runDir(), p.Role)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(told)
	r := newReloader(&p)
	g.Go(func() error { return serve(ctx, ln, p.handler(r)) })
	if p.Reload != nil {
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP) // before anybody is told of the start: its default is to end the process
		defer signal.Stop(hup)
		g.Go(func() error { r.onSignal(ctx, hup); return nil })
	}
	g.Go(func() error { p.tell(ctx); return nil })
	for _, t := range tasks {
		g.Go(func() error { return t(ctx) })
	}
	p.Log.Info("started", "pid", os.Getpid(), "socket", ln.Addr().String())
	err = g.Wait()
	// a part that was stopped because another failed may join its own cancellation to the cause
	if err != nil && (told.Err() == nil || !errors.Is(err, context.Canceled)) {
		return fmt.Errorf("%s: %w", p.Role, err)
	}
	p.Log.Info("stopped")
	return nil
}

// tell keeps a service manager informed until ctx is done.
func (p Process) tell(ctx context.Context) {
	if p.Ready != nil {
		select {
		case <-p.Ready:
		case <-ctx.Done():
		}
	}
	if ctx.Err() == nil {
		p.notify("READY=1")
		<-ctx.Done()
	}
	p.notify("STOPPING=1")
}

func (p Process) notify(state string) {
	if err := notify(state); err != nil {
		p.Log.Warn("notify", "err", err)
	}
}

// SocketPath gives the path of a role's status socket.
func SocketPath(runDir, role string) string {
	if runDir == "" {
		runDir = DefaultRunDir
	}
	return filepath.Join(runDir, role+".sock")
}

func (p Process) runDir() string {
	if p.RunDir == "" {
		return DefaultRunDir
	}
	return p.RunDir
}

// listen takes over the socket path. A live process of the same role is an error; a socket left by a dead one is not. Processes that
// start at the same time do so one after the other: a second one would take the first's new socket for one that was left.
func listen(runDir, role string) (ln net.Listener, err error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("make the run directory: %w; give another with --run-dir", err)
	}
	lock, err := lockDir(runDir)
	if err != nil {
		return nil, fmt.Errorf("lock the run directory: %w; give another with --run-dir", err)
	}
	defer lock.Close() // it was only read
	path := SocketPath(runDir, role)
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return nil, fmt.Errorf("another %s answers on %s; stop it, or give this one its own --run-dir", role, path)
	}
	if !nobody(err) { // a process that is too busy to answer still owns its socket
		return nil, fmt.Errorf("is another %s on %s: %w", role, path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w; give another folder with --run-dir", err)
	}
	ln, err = net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on status socket: %w; give another folder with --run-dir", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		ln.Close()
		return nil, fmt.Errorf("set mode of status socket: %w", err)
	}
	return ln, nil
}

// lockDir waits until no other process has a directory locked. The lock is given back by Close.
func lockDir(path string) (*os.File, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(lockTime); ; <-tick.C {
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return nil, errors.Join(err, dir.Close())
		}
	}
}

// nobody says whether dialling a socket failed because no process listens on it.
func nobody(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

func serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadTimeout: socketTime, WriteTimeout: socketTime, IdleTimeout: socketTime}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		return fmt.Errorf("status socket: %w", err)
	case <-ctx.Done():
	}
	err := srv.Close()
	<-done
	return err
}

func (p Process) handler(r *reloader) http.Handler {
	reg := p.Registry
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if p.Reload != nil {
		reg.MustRegister(r.refused, r.applied)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if p.Healthy != nil {
			if err := p.Healthy(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("POST /v1/reload", r.serve)
	for pattern, h := range p.Handlers {
		mux.HandleFunc(pattern, h)
	}
	for path, status := range p.Status {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			if err := enc.Encode(status()); err != nil {
				p.Log.Debug("write status", "path", path, "err", err) // whoever asked is gone
			}
		})
	}
	return mux
}
