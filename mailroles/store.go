package mailroles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"anycastle/mailroles/directory"
	"anycastle/mailroles/drain"
	"anycastle/mailroles/imapd"
	"anycastle/mailroles/link"
	"anycastle/mailroles/queue"
	"anycastle/mailroles/replica/wire"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/store"
	"anycastle/mailroles/tally"
)

// StoreStatus is the status of the store role.
type StoreStatus struct {
	LUN   string       `json:"lun,omitempty"`  // the only one
	Node  string       `json:"node,omitempty"` // whose replicas this has
	Drain drain.Status `json:"drain"`          // whether it serves
	LMTP  SessionStat  `json:"lmtp"`           // done: messages stored, one for each recipient
	IMAP  SessionStat  `json:"imap"`           // done: sessions opened for users

	Queue *QueueStat `json:"queue,omitempty"` // where the LUN has one
}

// SessionStat is what one of the store's servers did.
type SessionStat struct {
	Sessions int               `json:"sessions"`
	Done     uint64            `json:"done"`
	Rejects  map[string]uint64 `json:"rejects"`
}

// Store is the store of one LUN, or has all replicas of a node.
type Store struct {
	base
	cfg        StoreConfig
	host       string
	lmtp, imap tally.Tally
	metrics    *logMetrics
	mail       atomic.Pointer[store.Store] // nil while the LUN is not open
	serving    atomic.Bool

	queues bool // the LUN has a queue
	queue  atomic.Pointer[queue.Queue]
	queued tally.Tally
	stores map[string]netip.AddrPort // where the store of each LUN takes LMTP
	links  *link.Pool                // to them

	node  *wire.Node // of the replicas
	hosts []*host    // none where the store has one LUN without replicas
}

var _ Role = (*Store)(nil)

// NewStore makes the store role of a config that has one.
func NewStore(c Config, opt Options) (*Store, error) {
	if c.Store == nil {
		return nil, errors.New("mailroles: config has no store section")
	}
	b, err := newBase(c, c.Store.Drain, opt)
	if err != nil {
		return nil, err
	}
	r := &Store{base: b, cfg: *c.Store, host: c.Hostname, stores: map[string]netip.AddrPort{}}
	if r.cfg.LUN != "" {
		r.Log = r.Log.With("lun", r.cfg.LUN)
	}
	r.links = link.NewPool(r.host, r.tls.ClientOfAny(), r.Log)
	for _, l := range c.LUNs {
		r.stores[l.Name] = l.LMTP
	}
	if r.cfg.Node != "" {
		if err := r.addHosts(c.replicated(r.cfg.Node)); err != nil {
			return nil, err
		}
	} else {
		lun, _ := c.lun(r.cfg.LUN)
		r.queues = lun.Queue.IsValid()
	}
	if r.metrics, err = newLogMetrics(b.Registry); err != nil {
		return nil, fmt.Errorf("register metrics of the log: %w", err)
	}
	return r, errors.Join(
		register(b.Registry, "store_lmtp", "deliveries", &r.lmtp),
		register(b.Registry, "store_imap", "logins", &r.imap),
		r.registerQueue(),
	)
}

// Run implements Role.
func (r *Store) Run(ctx context.Context) (err error) {
	if r.hosts != nil {
		defer r.links.Close()
		return r.runHosts(ctx)
	}
	mail, err := store.OpenWith(store.Options{Root: r.cfg.Path, Log: r.Log, Synced: r.metrics.synced})
	if err != nil {
		return err
	}
	r.mail.Store(mail)
	defer func() {
		r.mail.Store(nil)
		err = errors.Join(err, mail.Close())
	}()
	defer r.links.Close()
	if err := r.openQueue(mail); err != nil {
		return err
	}
	defer r.queue.Store(nil)
	return r.drainer.Run(ctx, drain.Service{
		Listen: func(ctx context.Context) ([]net.Listener, error) {
			return r.listen(ctx, r.addrs()...)
		},
		Serve:    func(ctx context.Context, listeners []net.Listener) error { return r.serve(ctx, mail, listeners) },
		Farewell: func(int) string { return "" }, // TLS
		Healthy:  r.Healthy,
		Sessions: func() int { return r.lmtp.Counts().Sessions + r.imap.Counts().Sessions + r.queued.Counts().Sessions },
	})
}

func (r *Store) serve(ctx context.Context, mail *store.Store, listeners []net.Listener) error {
	handler := &smtpd.Store{LUN: r.cfg.LUN, Directory: r.dir, Mail: mail, Limit: limitOf, Log: r.Log}
	if q := r.queue.Load(); q != nil {
		handler.Notifier = q
	}
	lmtp := smtpd.NewServer(smtpd.Options{
		Hostname:    r.host,
		LinkTLS:     r.tls.Server(),
		MaxSize:     r.cfg.MaxSize,
		MaxSessions: r.cfg.MaxSessions,
		Grace:       r.cfg.Drain.Deadline,
		Handler:     handler,
		Log:         r.Log,
		Tally:       &r.lmtp,
	})
	imap := imapd.NewServer(imapd.Options{
		LUN:         r.cfg.LUN,
		Directory:   r.dir,
		Mail:        mail,
		LinkTLS:     r.tls.Server(),
		MaxSize:     r.cfg.MaxSize,
		MaxSessions: r.cfg.MaxSessions,
		Grace:       r.cfg.Drain.Deadline,
		Log:         r.Log,
		Tally:       &r.imap,
	})
	r.serving.Store(true)
	defer r.serving.Store(false)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return mail.Run(ctx) })
	g.Go(func() error { return lmtp.Run(ctx, listeners[0]) })
	g.Go(func() error { return imap.Run(ctx, listeners[1]) })
	r.serveQueue(ctx, g, listeners[2:])
	return g.Wait()
}

// limitOf gives what the directory lets a mailbox hold.
func limitOf(m directory.Mailbox) store.Limit { return store.Limit(m.Quota) }

// Healthy implements Role.
func (r *Store) Healthy() error {
	if !r.serving.Load() {
		return cmp.Or(r.drainer.Healthy(), errStopped)
	}
	if mail := r.mail.Load(); mail != nil {
		return mail.Err()
	}
	return r.hostsHealthy()
}

// Status implements Role.
func (r *Store) Status() any {
	stat := func(t *tally.Tally) SessionStat {
		c := t.Counts()
		return SessionStat{Sessions: c.Sessions, Done: c.Done, Rejects: c.Rejects}
	}
	return StoreStatus{
		LUN: r.cfg.LUN, Node: r.cfg.Node, Drain: r.Drain(), LMTP: stat(&r.lmtp), IMAP: stat(&r.imap), Queue: r.queueStat(stat(&r.queued)),
	}
}
