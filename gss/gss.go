package gss

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"anycastle/gss/balancer"
	"anycastle/gss/cookie"
	"anycastle/gss/limit"
	"anycastle/gss/message"
	"anycastle/gss/udp"
	"anycastle/internal/daemon"
	"anycastle/internal/mtls"
	"anycastle/internal/probe"
)

// ErrNotReady says that the first round of probes has not ended, so nothing is answered yet.
var ErrNotReady = errors.New("the first round of probes has not ended")

// Options are what a GSS is given beside its config.
type Options struct {
	Log      *slog.Logger          // nil: silent
	Registry prometheus.Registerer // nil: metrics are kept but not shown
	Probe    probe.Func            // nil: what the configs ask for

	dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error) // to balancers, in tests; nil: over TLS
}

// GSS serves zones. Its methods are safe for concurrent use.
type GSS struct {
	log       *slog.Logger
	metrics   *metrics
	cookies   *cookie.Server
	seed      maphash.Seed // of nameHash
	engine    *engine
	answering atomic.Pointer[addresses] // nil until the sockets are open
	answers   chan struct{}             // closed when they are
	faultOnce sync.Once
	refusals  refusals
	reloading sync.Mutex
	reload    atomic.Pointer[daemon.Reload] // the last one; nil before the first
	stale     chan struct{}                 // replies are to be packed anew; holds one
	resigned  chan struct{}                 // other zones are signed; holds one
	queries   *queryLog                     // nil: there is none
	shared    *keyShare                     // nil: there is no mesh
	moves     *transfers
}

// addresses are what is listened on.
type addresses struct{ plain, tls []netip.AddrPort }

// New checks the config and reads the zones. It opens and starts nothing.
func New(cfg Config, o Options) (*GSS, error) {
	g := &GSS{log: o.Log, metrics: newMetrics(o.Registry), seed: maphash.MakeSeed(), cookies: cookie.NewServer(cookie.Random())}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.stale, g.resigned, g.answers = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	if cfg.QueryLog != nil {
		g.queries = newQueryLog(cfg.QueryLog, g.log)
	}
	first, err := newServing(cfg, g, nil)
	if err != nil {
		return nil, err
	}
	secrets, err := cfg.secrets()
	if err != nil {
		return nil, err
	}
	if len(secrets) > 0 {
		g.cookies.Set(secrets[0], secrets[1:]...)
	}
	links, err := g.linkTLS(&cfg)
	if err != nil {
		return nil, fmt.Errorf("gss config: %w", err)
	}
	if g.engine, err = newEngine(first.name, cfg.Mesh, o, balancer.Options{TLS: links, Dial: o.dial}, g.log, g.metrics); err != nil {
		return nil, err
	}
	if m := g.engine.mesh; m != nil {
		g.shared = &keyShare{node: first.name, data: g.engine.data, members: m.Members}
		for _, is := range first.signed {
			is.shared = g.shared
		}
	}
	if o.Registry != nil {
		o.Registry.MustRegister(g.engine.tellers.balancers)
	}
	g.moves = g.newTransfers(cfg.StateDir)
	g.engine.publish = g.moves.announce
	first = g.moves.begin(first)
	first.giveBack()
	return g, g.engine.serve(first)
}

// Run probes and answers until ctx is done, which is no error. It may be called once.
//
// The sockets are opened after the first round of probes, or when that takes too long: until then a resolver finds this server
// silent and asks another, which is better than an address that may be dead.
func (g *GSS) Run(ctx context.Context) (err error) {
	cfg := g.engine.serving().config
	held, err := hold(cfg.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }() // after all is written
	if err := g.engine.load(cfg.StateDir); err != nil {
		return err
	}
	if err := g.openKeys(ctx); err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { g.tend(inner); return inner.Err() })
	group.Go(func() error { g.pack(inner); return inner.Err() })
	if g.queries != nil {
		group.Go(func() error { return g.queries.run(inner) })
	}
	group.Go(func() error { return g.engine.prober.Run(inner) })
	group.Go(func() error { return g.engine.tellers.run(inner) })
	group.Go(func() error { return g.engine.keep(inner, cfg.StateDir) })
	group.Go(func() error { g.engine.run(inner); return inner.Err() })
	if g.engine.mesh != nil {
		group.Go(func() error { return g.engine.mesh.Run(inner) })
	}
	group.Go(func() error { g.moves.follower.Run(inner); return inner.Err() })
	group.Go(func() error { return g.serve(inner, &cfg) })
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// serve waits for the first round of probes and answers from then on.
func (g *GSS) serve(ctx context.Context, cfg *Config) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-g.engine.ready:
	}
	g.waitKeys(ctx)
	streams, err := g.bindStreams(ctx, cfg)
	if err != nil {
		return err
	}
	listen := slices.Clone(cfg.Listen)
	for i := range listen {
		listen[i] = streams[i].addr() // a port that was left open is the same for both
	}
	packets, err := udp.Listen(udp.Config{Listen: listen, Sockets: runtime.NumCPU(), Log: g.log}, g)
	if err != nil {
		closeAll(streams)
		return bindError("UDP", err)
	}
	g.metrics.serve(packets.Counters, func() []limit.Count { return g.engine.current.Load().limiter.Counts() })
	on := addresses{plain: listen}
	for _, l := range streams[len(listen):] {
		on.tls = append(on.tls, l.addr())
	}
	g.answering.Store(&on)
	close(g.answers)
	g.log.Info("answering", "zones", len(cfg.Zones), "listen", on.plain, "listen_tls", on.tls)
	limiter := func() *limit.Limiter { return g.engine.current.Load().limiter }
	s := &server{log: g.log, metrics: g.metrics, limiter: limiter, respond: g.respondStream}
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return packets.Serve(inner) })
	group.Go(func() error { return s.serve(inner, streams) })
	group.Go(func() error { g.moves.notifier.Run(inner); return inner.Err() }) // now that who is told can ask
	return group.Wait()
}

// bindStreams opens what takes connections.
func (g *GSS) bindStreams(ctx context.Context, cfg *Config) ([]listener, error) {
	streams, err := bind(ctx, cfg.Listen, nil)
	if err != nil || len(cfg.ListenTLS) == 0 {
		return streams, err
	}
	material, err := mtls.Load(*cfg.TLS, g.log)
	if err == nil {
		secure := material.Public()
		secure.NextProtos = []string{"dot"} // RFC 7858's, registered with IANA
		var more []listener
		more, err = bind(ctx, cfg.ListenTLS, secure)
		streams = append(streams, more...)
	}
	if err != nil {
		closeAll(streams)
	}
	return streams, err
}

// Answering is closed when the first query can be answered.
func (g *GSS) Answering() <-chan struct{} { return g.answers }

// Healthy is nil while queries are answered, ErrNotReady before.
func (g *GSS) Healthy() error {
	if g.answering.Load() == nil {
		return ErrNotReady
	}
	return nil
}

// respond answers one message by the decision of this moment; nil: there is no reply. Whatever goes wrong costs this one query only.
func (g *GSS) respond(wire []byte, via message.Transport, from netip.AddrPort) []byte {
	return g.respondStream(wire, via, from, nil)
}

// respondStream is respond where a reply may have several messages: it gives the last, and has more send those before it.
func (g *GSS) respondStream(wire []byte, via message.Transport, from netip.AddrPort, more func([]byte) bool) (reply []byte) {
	var why message.Reason
	now, served := time.Now(), g.engine.current.Load()
	defer func() {
		if p := recover(); p != nil {
			reply, why = nil, faulty
			g.fault(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
		g.metrics.count(via, reply, why)
		g.queries.add(now, from, via, served, reply)
	}()
	q, reply, why := served.edge.Read(wire, via, from, now)
	if why != "" {
		return nil
	}
	x := &exchange{GSS: g, served: served, query: q, more: more, now: now}
	if reply == nil {
		var err error
		switch reply, err = x.run(); {
		case errors.Is(err, errAborted):
			why = aborted
			return nil
		case err != nil:
			why = faulty
			g.fault(err)
			return nil
		}
	}
	if !x.judged {
		if instead, held := x.hold(likenessOfOther(q, reply)); held {
			reply = instead
		}
	}
	if reply == nil {
		why = limited
	}
	return reply
}

// fault counts a query that was lost to a bug. Only the first is logged: whoever found it may send it at line rate.
func (g *GSS) fault(err error) {
	g.metrics.faults.Inc()
	g.faultOnce.Do(func() { g.log.Error("query lost to a fault; further ones are only counted", "err", err) })
}
