package mailroles

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"anycastle/mailroles/imapd"
	"anycastle/mailroles/queue"
	"anycastle/mailroles/replica"
	"anycastle/mailroles/replica/group"
	"anycastle/mailroles/replica/wire"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/store"
)

const (
	// hostGrace is how long sessions may go on when the replica has ceased to be active: nothing is acknowledged any more.
	hostGrace = 300 * time.Millisecond
	// listenTime is how long addresses may be in use by who had them before, on the same machine.
	listenTime  = 2 * time.Second
	listenPause = 50 * time.Millisecond
)

// Identity takes the addresses of a LUN for the active store of it, and has them announced. Its methods are called
// concurrently for different LUNs.
type Identity interface {
	Take(lun string, addrs []netip.Addr, term uint64) error
	// Drop gives them up. It does nothing for a LUN that has none.
	Drop(lun string) error
}

// noIdentity is that of a process that was given none: the addresses are there.
type noIdentity struct{}

func (noIdentity) Take(string, []netip.Addr, uint64) error { return nil }
func (noIdentity) Drop(string) error                       { return nil }

// host is this process's replica of one LUN, and what it serves while that is active.
type host struct {
	role    *Store
	lun     LUN
	path    string
	replica *replica.Replica
	queue   atomic.Pointer[queue.Queue]

	mu      sync.Mutex
	holders []holder // what serves now
}

// holder brings what it serves to rest.
type holder interface {
	Hold(ctx context.Context) (release func())
}

// newHost makes the replica of a LUN.
func (r *Store) newHost(l LUN, node *wire.Node, metrics *replica.Metrics) (*host, error) {
	h := &host{role: r, lun: l, path: filepath.Join(r.cfg.Path, l.Name)}
	opt := replicaOptions(l, r.cfg.Node, h.path, node)
	opt.Log, opt.Metrics = r.Log.With("lun", l.Name), metrics
	opt.Serve, opt.Hold = h.serve, h.hold
	var err error
	if h.replica, err = replica.New(opt); err != nil {
		return nil, err
	}
	if l.Queue.IsValid() && r.Registry != nil {
		reg := prometheus.WrapRegistererWith(prometheus.Labels{"lun": l.Name}, r.Registry)
		if err := reg.Register(queue.NewCollector(h.queue.Load)); err != nil {
			return nil, fmt.Errorf("register metrics of the queue of %s: %w", l.Name, err)
		}
	}
	return h, h.replica.Register(r.Registry)
}

// replicaOptions are what the config says of a replica.
func replicaOptions(l LUN, self, path string, node *wire.Node) replica.Options {
	opt := replica.Options{
		LUN: l.Name, Self: self, TwoSite: replica.Policy(l.TwoSite), Dir: path, Node: node,
		SwitchBackAfter: l.SwitchBackAfter, CatchUpRate: l.CatchUpRate, ScrubEvery: l.ScrubEvery,
	}
	for _, m := range l.Replicas {
		opt.Members = append(opt.Members, group.Member{Name: m.Name, Site: m.Site, Addr: m.Addr.String(), Witness: m.Witness})
	}
	if t := l.Times; t != nil {
		opt.Times = group.Times{Heartbeat: t.Heartbeat, Election: t.Election, Lease: t.Lease, Commit: t.Commit}
		opt.State = t.State
	}
	return opt
}

// addrs gives where the active store of the LUN listens: lmtp, imap, and the queue where there is one.
func (h *host) addrs() (list []netip.AddrPort, identity []netip.Addr) {
	list = []netip.AddrPort{h.lun.LMTP, h.lun.IMAP}
	if h.lun.Queue.IsValid() {
		list = append(list, h.lun.Queue)
	}
	for _, a := range list {
		if !slices.Contains(identity, a.Addr()) {
			identity = append(identity, a.Addr())
		}
	}
	return list, identity
}

// serve takes the LUN's identity and serves until ctx ends, in which case nobody may be told anything any more.
func (h *host) serve(ctx context.Context, mail *store.Store, term uint64) (err error) {
	addrs, identity := h.addrs()
	if err := h.role.identity().Take(h.lun.Name, identity, term); err != nil {
		return errors.Join(err, h.role.identity().Drop(h.lun.Name))
	}
	defer func() { err = errors.Join(err, h.role.identity().Drop(h.lun.Name)) }()
	listeners, err := h.listen(ctx, addrs)
	if err != nil {
		return err
	}
	servers, err := h.servers(mail, listeners)
	if err != nil {
		for _, ln := range listeners {
			err = errors.Join(err, ln.Close())
		}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	var holders []holder
	for _, s := range servers {
		holders = append(holders, s.holder)
		g.Go(func() error { return s.run(ctx) })
	}
	h.setHolders(holders)
	defer h.setHolders(nil)
	defer h.queue.Store(nil)
	return g.Wait()
}

// listen opens all sockets, or none. Who had them before may be about to close them.
func (h *host) listen(ctx context.Context, addrs []netip.AddrPort) ([]net.Listener, error) {
	deadline := time.Now().Add(listenTime)
	for {
		var list []net.Listener
		var failed error
		for _, a := range addrs {
			ln, err := h.role.Listen(ctx, "tcp", a.String())
			if err != nil {
				failed = fmt.Errorf("listen on %s: %w", a, err)
				break
			}
			list = append(list, ln)
			if err := onlyTalkers(ln); err != nil {
				failed = fmt.Errorf("listen on %s: %w", a, err)
				break
			}
		}
		if failed == nil {
			return list, nil
		}
		for _, ln := range list {
			failed = errors.Join(failed, ln.Close())
		}
		if time.Now().After(deadline) {
			return nil, failed
		}
		select {
		case <-ctx.Done():
			return nil, failed
		case <-time.After(listenPause):
		}
	}
}

// server is one part of what is served.
type server struct {
	holder
	run func(context.Context) error
}

// servers makes what serves the mail of an active replica.
func (h *host) servers(mail *store.Store, listeners []net.Listener) ([]server, error) {
	r := h.role
	handler := &smtpd.Store{LUN: h.lun.Name, Directory: r.dir, Mail: mail, Limit: limitOf, Log: r.Log}
	var list []server
	if h.lun.Queue.IsValid() {
		q, err := queue.Open(queue.Options{
			Dir: filepath.Join(h.path, queueDir), Hostname: r.host, Config: r.cfg.Queue, Log: r.Log, Grace: hostGrace,
			Home:   home{lun: h.lun.Name, dir: r.dir, mail: mail, stores: r.stores, links: r.links},
			Keeper: mail.QueueKeeper(),
		})
		if err != nil {
			return nil, fmt.Errorf("open queue: %w", err)
		}
		h.queue.Store(q)
		handler.Notifier = q
		queued := smtpd.NewServer(h.smtp(queue.Handler{Queue: q}))
		queued2 := func(ctx context.Context) error { return queued.Run(ctx, listeners[2]) }
		list = append(list, server{queued, queued2}, server{q, q.Run})
	}
	opt := h.smtp(handler)
	opt.Tally = &r.lmtp
	lmtp := smtpd.NewServer(opt)
	imap := imapd.NewServer(imapd.Options{
		LUN: h.lun.Name, Directory: r.dir, Mail: mail, LinkTLS: r.tls.Server(),
		MaxSize: r.cfg.MaxSize, MaxSessions: r.cfg.MaxSessions, Grace: hostGrace, Log: r.Log, Tally: &r.imap,
	})
	return append(list,
		server{lmtp, func(ctx context.Context) error { return lmtp.Run(ctx, listeners[0]) }},
		server{imap, func(ctx context.Context) error { return imap.Run(ctx, listeners[1]) }},
	), nil
}

func (h *host) smtp(handler smtpd.Handler) smtpd.Options {
	r := h.role
	return smtpd.Options{
		Hostname: r.host, LinkTLS: r.tls.Server(), MaxSize: r.cfg.MaxSize, MaxSessions: r.cfg.MaxSessions, Grace: hostGrace,
		Handler: handler, Log: r.Log, Tally: &r.queued,
	}
}

func (h *host) setHolders(list []holder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holders = list
}

// hold brings all that is served to rest at once, until ctx ends at the latest.
func (h *host) hold(ctx context.Context) (release func()) {
	h.mu.Lock()
	holders := h.holders
	h.mu.Unlock()
	releases := make([]func(), len(holders))
	var holding sync.WaitGroup
	for i, s := range holders {
		holding.Go(func() { releases[i] = s.Hold(ctx) })
	}
	holding.Wait()
	return func() {
		for _, release := range releases {
			release()
		}
	}
}

// state tells what is known of the LUN here.
func (h *host) state() LUNState {
	s := h.replica.Status()
	l := LUNState{Name: h.lun.Name, Path: h.path, Replica: &s}
	if mail := h.replica.Store(); mail != nil {
		l.Status = mail.Status()
	}
	return l
}
