package mailroles

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sync/errgroup"

	"anycastle/mailroles/drain"
	"anycastle/mailroles/replica"
	"anycastle/mailroles/replica/wire"
)

// addHosts makes the replicas of a store that has some.
func (r *Store) addHosts(luns []LUN) error {
	var err error
	if r.node, err = newNode(r.cfg.Node, &r.base); err != nil {
		return err
	}
	metrics, err := replica.NewMetrics(r.Registry)
	if err != nil {
		return fmt.Errorf("register metrics of replicas: %w", err)
	}
	for _, l := range luns {
		h, err := r.newHost(l, r.node, metrics)
		if err != nil {
			return err
		}
		r.hosts = append(r.hosts, h)
	}
	return nil
}

// newNode makes this process's end of the links between replicas.
func newNode(self string, b *base) (*wire.Node, error) {
	return wire.New(wire.Options{Self: self, Server: b.tls.Server(), Client: b.tls.ClientOfAny(), Log: b.Log})
}

// identity gives what takes addresses.
func (r *Store) identity() Identity {
	if r.Identity == nil {
		return noIdentity{}
	}
	return r.Identity
}

// runHosts runs all replicas until ctx ends. When it does, or on an order, those that are active hand over first.
func (r *Store) runHosts(ctx context.Context) error {
	ln, err := r.listen(ctx, r.cfg.ReplicaListen)
	if err != nil {
		return err
	}
	r.serving.Store(true)
	defer r.serving.Store(false)
	// the replicas go on until what they serve has been drained
	outliving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, running := errgroup.WithContext(outliving)
	g.Go(func() error { return r.node.Serve(running, ln[0]) })
	for _, h := range r.hosts {
		g.Go(func() error { return h.replica.Run(running) })
	}
	draining, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(running, cancel) // a replica that cannot run at all ends the role
	err = r.drainer.Run(draining, drain.Service{
		Listen:   func(context.Context) ([]net.Listener, error) { return nil, nil },
		Serve:    func(ctx context.Context, _ []net.Listener) error { r.lead(ctx); return nil },
		Farewell: func(int) string { return "" },
		Healthy:  r.Healthy,
		Sessions: func() int { return r.lmtp.Counts().Sessions + r.imap.Counts().Sessions + r.queued.Counts().Sessions },
	})
	stop()
	return errors.Join(err, g.Wait())
}

// lead lets replicas be active until ctx ends, and has them hand over then.
func (r *Store) lead(ctx context.Context) {
	for _, h := range r.hosts {
		h.replica.Return()
	}
	<-ctx.Done()
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Drain.Deadline)
	defer cancel()
	var all sync.WaitGroup
	for _, h := range r.hosts {
		all.Go(func() { h.replica.HandOver(leaving, "the store is drained") })
	}
	all.Wait()
}

// hostsHealthy is nil while all replicas are active or follow in step.
func (r *Store) hostsHealthy() error {
	var errs []error
	for _, h := range r.hosts {
		errs = append(errs, h.replica.Healthy())
	}
	return errors.Join(errs...)
}
