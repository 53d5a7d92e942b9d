package mailroles

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/mailroles/accept"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/drain"
	"anycastle/mailroles/tally"
)

// Role is one mail role. Run is called once; the others may be called at any time, concurrently.
type Role interface {
	// Run serves until ctx ends, drains then, and waits for all it started.
	Run(ctx context.Context) error
	// Ready is closed when the role serves for the first time.
	Ready() <-chan struct{}
	// Drain tells whether the role serves; Handlers take orders about that, by pattern such as "POST /v1/drain".
	Drain() drain.Status
	Handlers() map[string]http.HandlerFunc
	// Healthy is nil while the role does its job.
	Healthy() error
	// Status gives SMTPStatus, SubmissionStatus, IMAPStatus or StoreStatus.
	Status() any
	// Directory is what the role asks for mailboxes. The caller runs it beside the role, and closes it after.
	Directory() *directory.Directory
}

// Options are what a role is given by the process that it runs in.
type Options struct {
	Log      *slog.Logger          // nil: silent
	Registry prometheus.Registerer // nil: no metrics
	Listen   ListenFunc            // nil: net.ListenConfig's
	Identity Identity              // of LUNs with replicas; nil: their addresses are there
}

// ListenFunc opens a socket to listen on.
type ListenFunc func(ctx context.Context, network, address string) (net.Listener, error)

// errStopped is the health of a role that does not run.
var errStopped = errors.New("mailroles: not serving")

// base is what all roles are made of.
type base struct {
	Options
	tls     *mtls.Material
	public  shown // what clients see
	dir     *directory.Directory
	drainer *drain.Drainer
}

// shown gives the settings towards clients.
type shown interface{ Public() *tls.Config }

// newBase checks the config once more, since it may have been built without a node file, and reads its files. dc is the
// role's own.
func newBase(c Config, dc drain.Config, opt Options) (base, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Listen == nil {
		opt.Listen = (&net.ListenConfig{}).Listen
	}
	if err := config.Check("mail", c.Validate); err != nil {
		return base{}, err
	}
	material, err := mtls.Load(c.TLS, opt.Log)
	if err != nil {
		return base{}, err
	}
	public := shown(material)
	if c.PublicTLS != nil {
		if public, err = mtls.LoadPair(*c.PublicTLS, opt.Log); err != nil {
			return base{}, err
		}
	}
	dir, err := directory.Open(c.Directory, c.lunNames(), opt.Log)
	if err != nil {
		return base{}, err
	}
	b := base{Options: opt, tls: material, public: public, dir: dir, drainer: drain.New(dc, opt.Listen, opt.Log)}
	return b, nil
}

// Ready implements Role.
func (b *base) Ready() <-chan struct{} { return b.drainer.Ready() }

// Drain implements Role.
func (b *base) Drain() drain.Status { return b.drainer.Status() }

// Handlers implements Role.
func (b *base) Handlers() map[string]http.HandlerFunc { return b.drainer.Handlers() }

// behind gives the listeners of a front end that may have proxies before it. What they send is counted when it is no header.
func (b *base) behind(proxies accept.Config, t *tally.Tally, listeners []net.Listener) []net.Listener {
	list := make([]net.Listener, len(listeners))
	for i, ln := range listeners {
		list[i] = accept.Proxied(ln, proxies.ProxyFrom, func(peer net.Addr, err error) {
			t.Reject("proxy-header")
			b.Log.Debug("connection refused", "peer", peer.String(), "err", err)
		})
	}
	return list
}

// Directory implements Role.
func (b *base) Directory() *directory.Directory { return b.dir }

// listen opens all sockets, or none.
func (b *base) listen(ctx context.Context, addrs ...config.ListenAddr) ([]net.Listener, error) {
	var list []net.Listener
	for _, a := range addrs {
		ln, err := b.Listen(ctx, "tcp", a.String())
		if err != nil {
			errs := []error{fmt.Errorf("listen on %s: %w", a, err)}
			for _, open := range list {
				errs = append(errs, open.Close())
			}
			return nil, errors.Join(errs...)
		}
		list = append(list, ln)
	}
	return list, nil
}
