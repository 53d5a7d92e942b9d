package mailroles

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/mailroles/replica"
	"anycastle/mailroles/replica/wire"
)

// Witness votes in the groups of LUNs and keeps their logs; it never has mail. It needs no directory of mailboxes, and is no
// Role: there is nothing to be drained.
type Witness struct {
	base
	cfg   WitnessConfig
	node  *wire.Node
	hosts []*host
	ready chan struct{}
}

// NewWitness makes the witness of a config that has one.
func NewWitness(c Config, opt Options) (*Witness, error) {
	if c.Witness == nil {
		return nil, errors.New("mailroles: config has no witness section")
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Listen == nil {
		opt.Listen = (&net.ListenConfig{}).Listen
	}
	if err := config.Check("mail", c.Validate); err != nil {
		return nil, err
	}
	material, err := mtls.Load(c.TLS, opt.Log)
	if err != nil {
		return nil, err
	}
	w := &Witness{base: base{Options: opt, tls: material}, cfg: *c.Witness, ready: make(chan struct{})}
	if w.node, err = newNode(w.cfg.Node, &w.base); err != nil {
		return nil, err
	}
	for _, l := range c.replicated(w.cfg.Node) {
		h := &host{lun: l, path: filepath.Join(w.cfg.Path, l.Name)}
		o := replicaOptions(l, w.cfg.Node, h.path, w.node)
		o.Log = w.Log.With("lun", l.Name)
		if h.replica, err = replica.New(o); err != nil {
			return nil, err
		}
		if err := h.replica.Register(w.Registry); err != nil {
			return nil, err
		}
		w.hosts = append(w.hosts, h)
	}
	return w, nil
}

// Ready is closed when the witness can be reached.
func (w *Witness) Ready() <-chan struct{} { return w.ready }

// Run votes until ctx ends.
func (w *Witness) Run(ctx context.Context) error {
	ln, err := w.listen(ctx, w.cfg.ReplicaListen)
	if err != nil {
		return err
	}
	close(w.ready)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.node.Serve(ctx, ln[0]) })
	for _, h := range w.hosts {
		g.Go(func() error { return h.replica.Run(ctx) })
	}
	return g.Wait()
}

// Healthy is nil while all groups work.
func (w *Witness) Healthy() error {
	select {
	case <-w.ready:
	default:
		return errStopped
	}
	var errs []error
	for _, h := range w.hosts {
		errs = append(errs, h.replica.Healthy())
	}
	return errors.Join(errs...)
}

// LUN tells how the groups are: a list of LUNState without mail.
func (w *Witness) LUN() any {
	list := []LUNState{}
	for _, h := range w.hosts {
		list = append(list, h.state())
	}
	return list
}
