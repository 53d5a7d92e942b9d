package real

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"time"

	"anycastle/bpf"
	"anycastle/lb/agent"

	"golang.org/x/sync/errgroup"
)

const (
	// repairPause is between two looks whether the programs that count are still in place.
	repairPause = 5 * time.Second
	// statusAge is how old a report may be that `show host` gives.
	statusAge = 200 * time.Millisecond
)

// AgentStatus is what the agent of `show host` says: the report that load balancers get, and what is behind it.
type AgentStatus struct {
	Listen  string `json:"listen"`
	Readers int    `json:"readers"` // load balancers that read reports
	State   string `json:"state"`   // ok, or why no report can be made
	agent.Report
	// of the whole machine, VIPs or not
	ListenOverflows uint64 `json:"listen_overflows"` // connections dropped since a queue was full
	ListenDrops     uint64 `json:"listen_drops"`     // connections dropped by listening sockets, for any reason
}

// agentRun is an agent while it runs.
type agentRun struct {
	listen  string
	server  *server
	sampler *sampler
}

func (a *agentRun) status() *AgentStatus {
	s := &AgentStatus{Listen: a.listen, Readers: int(a.server.streams.Load()), State: "ok"}
	report, _, err := a.sampler.report(statusAge)
	s.Report = report
	all, err2 := readListenDrops()
	s.ListenOverflows, s.ListenDrops = all.Overflows, all.Drops
	if err := errors.Join(err, err2, a.server.healthy()); err != nil {
		s.State = err.Error()
	}
	return s
}

func (r *Role) watchDir() string { return filepath.Join(r.opts.PinDir, "watch") }

// runAgent runs the agent on ln until ctx is done. Without one in the config it removes what is left of one, and waits.
func (r *Role) runAgent(ctx context.Context, ln net.Listener) (err error) {
	if r.cfg.Agent == nil {
		if err := bpf.UnloadWatch(r.watchDir()); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	watch, err := bpf.LoadWatch(r.watchDir())
	if err != nil {
		return err
	}
	defer func() {
		r.showAgent(nil)
		err = errors.Join(err, watch.Detach(), watch.Close(), bpf.Unload(r.watchDir()))
	}()
	if err := errors.Join(watch.SetVIPs(r.cfg.VIPs), watch.Attach(r.cfg.Uplinks)); err != nil {
		return err
	}
	keeper := &keeper{watch: watch, role: r}
	sampler := newSampler(r.cfg.VIPs, watch, r.log)
	run := &agentRun{listen: r.cfg.Agent.Listen.String(), sampler: sampler,
		server: &server{source: sampler, look: r.cfg.Agent.Look, healthy: keeper.healthy, log: r.log}}
	r.showAgent(run)
	r.log.Info("agent listens", "listen", run.listen)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return run.server.run(ctx, ln) })
	g.Go(func() error { return sampler.count(ctx) })
	g.Go(func() error { return keeper.run(ctx) })
	return g.Wait()
}

func (r *Role) showAgent(a *agentRun) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.agent = a
}

// Healthy says what keeps the role from doing its work.
func (r *Role) Healthy() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.host == nil {
		return errors.New("not set up yet")
	}
	if r.agent == nil && r.cfg.Agent != nil {
		return errors.New("the agent does not run yet")
	}
	if r.agent == nil {
		return nil
	}
	return r.agent.server.healthy()
}
