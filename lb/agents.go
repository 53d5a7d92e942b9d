package lb

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"anycastle/lb/agent"
)

const (
	reportEvery   = 50 * time.Millisecond // asked of agents; they say earlier what cannot wait
	reportSilence = 2 * time.Second       // after which an agent is lost
	relayEvery    = time.Second           // between two updates that say nothing new

	agentPatience   = 3 * time.Second // for a connection, a handshake and the first byte each
	agentRetryFirst = 100 * time.Millisecond
	agentRetryLast  = 5 * time.Second
)

// agentUpdate is what is known of a real by its agent.
type agentUpdate struct {
	Target   netip.AddrPort
	Report   agent.Report   // the last one; the zero Report: none yet
	At       time.Time      // when that came
	Err      error          // nil: reports come; else why not, and then nothing more is known: that is no reason to take the real out
	Verdicts []agentVerdict // what the reports since the last update speak against; holds until probes pass
}

// agentOptions are what agents need besides their targets.
type agentOptions struct {
	TLS    func() *tls.Config // of the next connection
	Log    *slog.Logger
	Report func(agentUpdate) // one call at a time for each target, but concurrently for different ones; may call SetTargets
	// Dial nil: a plain one.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// agents reads the reports of reals. Its methods are safe for concurrent use.
type agents struct {
	opts   agentOptions
	client *http.Client

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before and after
	readers map[netip.AddrPort]context.CancelFunc
	running sync.WaitGroup
}

// newAgents makes a reader without targets.
func newAgents(opts agentOptions) *agents {
	if opts.Dial == nil {
		opts.Dial = (&net.Dialer{Timeout: agentPatience}).DialContext
	}
	return &agents{
		opts: opts,
		client: &http.Client{Transport: &http.Transport{
			DialTLSContext:        opts.dialTLS,
			ResponseHeaderTimeout: agentPatience, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
		}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		readers: map[netip.AddrPort]context.CancelFunc{},
	}
}

// dialTLS opens a connection to an agent, with certificates as they are now.
func (o *agentOptions) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	raw, err := o.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	cfg := o.TLS()
	if cfg.ServerName, _, err = net.SplitHostPort(addr); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	ctx, cancel := context.WithTimeoutCause(ctx, agentPatience, errHandshake)
	defer cancel()
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	return conn, nil
}

// SetTargets makes targets all agents that are read. The streams of those that were there before go on. An update of one
// that has gone may still be on its way.
func (a *agents) SetTargets(targets []netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	wanted := map[netip.AddrPort]bool{}
	for _, t := range targets {
		wanted[t] = true
		if _, ok := a.readers[t]; !ok {
			a.readers[t] = nil
			a.start(t)
		}
	}
	for t, stop := range a.readers {
		if !wanted[t] {
			delete(a.readers, t)
			if stop != nil {
				stop()
			}
		}
	}
}

// start reads a target once Run runs. a.mu is held.
func (a *agents) start(t netip.AddrPort) {
	if a.ctx == nil {
		return
	}
	ctx, cancel := context.WithCancel(a.ctx)
	a.readers[t] = cancel
	r := agentReader{agents: a, target: t, log: a.opts.Log.With("agent", t)}
	a.running.Go(func() {
		defer cancel()
		r.run(ctx)
	})
}

// Run reads until ctx is done, and gives ctx's error. When it returns no agent is read and none is reported any more. It
// may be called once.
func (a *agents) Run(ctx context.Context) error {
	a.mu.Lock()
	a.ctx = ctx
	for t := range a.readers {
		a.start(t)
	}
	a.mu.Unlock()
	<-ctx.Done()
	a.mu.Lock()
	a.ctx = nil // from now on nothing is started
	a.mu.Unlock()
	a.running.Wait()
	a.client.CloseIdleConnections()
	return ctx.Err()
}

// Flows asks an agent for at most limit flows, and gives each to take as it comes, until ctx is done. It gives how many
// came.
func (a *agents) Flows(ctx context.Context, t netip.AddrPort, limit int, take func(agent.Flow) error) (int, error) {
	body, err := a.get(ctx, t, fmt.Sprintf("/v1/flows?limit=%d", limit))
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return agent.ReadFlows(body, limit, take)
}

// get asks an agent. The caller closes the answer.
func (a *agents) get(ctx context.Context, t netip.AddrPort, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+t.String()+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		res.Body.Close()
		return nil, fmt.Errorf("the agent answers %d: %q", res.StatusCode, strings.TrimSpace(string(text)))
	}
	return res.Body, nil
}

// agentReader reads one agent.
type agentReader struct {
	*agents
	target netip.AddrPort
	log    *slog.Logger

	detector detector
	last     agentUpdate // as it was reported
}

var errHandshake = fmt.Errorf("TLS handshake timeout: not within %v", agentPatience)

var errSilent = errors.New("the agent says nothing")

// run reads one stream after the other until ctx is done.
func (r *agentReader) run(ctx context.Context) {
	r.last.Target = r.target
	wait := agentRetryFirst
	for {
		before := r.last.At
		err := r.read(ctx)
		if ctx.Err() != nil {
			return
		}
		if r.last.At != before {
			wait = agentRetryFirst
		}
		r.lost(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait + rand.N(wait)):
		}
		wait = min(2*wait, agentRetryLast)
	}
}

// lost reports that nothing is known any more, unless that has been said.
func (r *agentReader) lost(err error) {
	if r.last.Err == nil {
		r.log.Warn("agent unknown", "last_report", r.last.At, "err", err)
	}
	if r.last.Err == nil || r.last.Err.Error() != err.Error() {
		r.last.Err, r.last.Verdicts = err, nil
		r.opts.Report(r.last)
	}
}

// read takes reports until something is wrong with them or they no longer come.
func (r *agentReader) read(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body, err := r.get(ctx, r.target, "/v1/report?every="+reportEvery.String())
	if err != nil {
		return err
	}
	defer body.Close()
	silence := time.AfterFunc(reportSilence, func() { cancel(errSilent) })
	defer silence.Stop()
	stream := agent.NewStream(body)
	told := time.Time{}
	for {
		report, err := stream.Next()
		if errors.Is(context.Cause(ctx), errSilent) {
			return fmt.Errorf("%w for %v", errSilent, reportSilence)
		}
		if err != nil {
			return err
		}
		silence.Reset(reportSilence)
		u := agentUpdate{Target: r.target, Report: report, At: time.Now(), Verdicts: r.detector.add(report)}
		if r.last.Err != nil {
			r.log.Info("agent answers again", "unknown_since", r.last.At)
		}
		if len(u.Verdicts) > 0 || told.IsZero() || u.At.Sub(told) >= relayEvery {
			told = u.At
			r.opts.Report(u)
		}
		r.last = u
	}
}
