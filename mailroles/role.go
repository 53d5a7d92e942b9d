package mailroles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/mailroles/directory"
)

// Role is one mail role. Run is called once; the others may be called at any time, concurrently.
type Role interface {
	// Run serves until ctx ends, lets what is under way finish for a few seconds, and waits for all it started.
	Run(ctx context.Context) error
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
}

// ListenFunc opens a socket to listen on.
type ListenFunc func(ctx context.Context, network, address string) (net.Listener, error)

// errStopped is the health of a role that does not run.
var errStopped = errors.New("mailroles: not serving")

// base is what all roles are made of.
type base struct {
	Options
	tls *mtls.Material
	dir *directory.Directory
}

// newBase checks the config once more, since it may have been built without a node file, and reads its files.
func newBase(c Config, opt Options) (base, error) {
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
	dir, err := directory.Open(c.Directory, c.lunNames(), opt.Log)
	if err != nil {
		return base{}, err
	}
	return base{Options: opt, tls: material, dir: dir}, nil
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
