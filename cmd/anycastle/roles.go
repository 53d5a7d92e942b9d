package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"runtime"
	"time"

	"anycastle/gss"
	"anycastle/internal/daemon"
	"anycastle/lb"
	"anycastle/lb/real"
	"anycastle/rhi"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

// roleFlags are those of every command that runs a role.
type roleFlags struct {
	config, runDir string
	debug          bool
}

func (f *roleFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", defaultNodeFile, "node file")
	cmd.Flags().StringVar(&f.runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().BoolVar(&f.debug, "debug", false, "log what is only of use when looking for a fault")
}

func (f *roleFlags) logger(e env) *slog.Logger {
	level := slog.LevelInfo
	if f.debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
}

// running is a role ready to run: what its process serves, and its task.
type running struct {
	status   map[string]func() any
	handlers map[string]http.HandlerFunc
	reload   func(context.Context, *nodeFile) error // nil: it cannot
	reloaded func(daemon.Reload)                    // nil: it does not want to know
	healthy  func() error
	ready    <-chan struct{} // nil: from the start
	tasks    []daemon.Task
}

// roleCommand makes a command that runs one role as this process. build finds its own section in the node file, nil
// when the file has none.
func roleCommand(e env, role, use, short, long string, build func(*nodeFile, *slog.Logger, *prometheus.Registry) (*running, error)) *cobra.Command {
	f := &roleFlags{}
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Long:  long + "\n\nSIGTERM ends it cleanly.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			node, err := loadNode(f.config)
			if err != nil {
				return usageError{err}
			}
			log := f.logger(e).With("role", role)
			reg := prometheus.NewRegistry()
			r, err := build(node, log, reg)
			if err != nil {
				return err
			}
			if r == nil {
				return usageError{fmt.Errorf("%s has no section for %s; its roles: %s", f.config, role, node.describe())}
			}
			p := daemon.Process{Role: role, RunDir: f.runDir, Log: log, Registry: reg, Status: r.status, Healthy: r.healthy}
			p.Handlers, p.Reloaded, p.Ready = r.handlers, r.reloaded, r.ready
			if r.reload != nil {
				p.Reload = func(ctx context.Context) error {
					node, err := loadNode(f.config)
					if err != nil {
						return err
					}
					return r.reload(ctx, node)
				}
			}
			return daemon.Run(cmd.Context(), p, r.tasks...)
		},
	}
	f.add(cmd)
	return cmd
}

const lbLong = `Balances the VIPs of the node file's lb section over their farms: an XDP program on each
uplink, probes that take reals in and out of service, and, when the file has an rhi section,
BGP that announces a VIP while its gates hold; explain vip says which do.

The programs and maps stay pinned when the process ends, so packets flow on; the BGP session
falls with it, so that routers prefer another balancer. ` + "`anycastle lb unload`" + ` removes them.`

func newLB(e env) *cobra.Command {
	cmd := roleCommand(e, "lb", "lb", "Balance VIPs over farms of reals in XDP, and announce them", lbLong, buildLB)
	cmd.AddCommand(newUnload(e))
	return cmd
}

func buildLB(node *nodeFile, log *slog.Logger, reg *prometheus.Registry) (*running, error) {
	if node.LB == nil {
		return nil, nil
	}
	opts := lb.Options{Log: log, Registry: reg}
	var routes *announcer
	if node.RHI != nil {
		var err error
		if routes, err = newAnnouncer(*node.RHI, log, reg); err != nil {
			return nil, err
		}
		opts.Announcer = routes
	}
	balancer, err := lb.New(*node.LB, opts)
	if err != nil {
		return nil, err
	}
	r := &running{status: balancer.Status(), handlers: balancer.Handlers(), tasks: []daemon.Task{balancer.Run}}
	before := *node
	r.reload = func(ctx context.Context, node *nodeFile) error {
		if node.LB == nil {
			return errors.New("the file has no lb section any more; stop the role instead")
		}
		if !reflect.DeepEqual(node.RHI, before.RHI) {
			return errors.New("rhi: it cannot change while the balancer runs; restart the role")
		}
		return balancer.Reload(ctx, *node.LB)
	}
	if routes != nil {
		addRHIStatus(r.status, routes.speaker)
		maps.Copy(r.status, routes.injector.Status())
		maps.Copy(r.handlers, routes.injector.Handlers())
		r.tasks = []daemon.Task{beside(balancer.Taken(), routes.Run, balancer.Run)}
	}
	return r, nil
}

func newRHI(e env) *cobra.Command {
	const long = `Announces the prefixes of the node file's rhi section by BGP. With a router section it is a
router: learned routes go into the kernel with ECMP, and what router.pass covers is passed on.
It never passes anything else on. On a balancer it runs inside ` + "`anycastle lb`" + ` instead, and on a
site selector that is no router inside ` + "`anycastle gss`" + `.`
	return roleCommand(e, "rhi", "rhi", "Announce routes by BGP, or be a router", long,
		func(node *nodeFile, log *slog.Logger, reg *prometheus.Registry) (*running, error) {
			if node.RHI == nil {
				return nil, nil
			}
			speaker := rhi.New(*node.RHI, rhi.Options{Log: log, Registry: reg})
			r := &running{status: map[string]func() any{}, tasks: []daemon.Task{speaker.Run}}
			addRHIStatus(r.status, speaker)
			return r, nil
		})
}

func addRHIStatus(status map[string]func() any, speaker *rhi.Role) {
	status["/v1/peer"] = func() any { return speaker.Status().Peers }
	status["/v1/route"] = func() any { return speaker.Status().Routes }
	status["/v1/sent"] = func() any { return speaker.Sent() }
	status["/v1/bfd"] = func() any { return speaker.BFD() }
}

func newGSS(e env) *cobra.Command {
	const long = `Answers DNS for the zones of the node file's gss section, over UDP and TCP. A name with a rule is
answered from its answer groups: by health, load, orders and the balance method. When nothing works
the last good answer stands: a name that exists never gets an error.

When the file has an rhi section, and the node is no router and no balancer, its prefixes are announced
by BGP from the first answer on, and withdrawn before the last.`
	return roleCommand(e, "gss", "gss", "Answer DNS with the site that works", long,
		func(node *nodeFile, log *slog.Logger, reg *prometheus.Registry) (*running, error) {
			if node.GSS == nil {
				return nil, nil
			}
			runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 4, 2*node.GSS.Sockets()))
			g, err := gss.New(*node.GSS, gss.Options{Log: log, Registry: reg})
			if err != nil {
				return nil, err
			}
			r := &running{status: g.Status(), handlers: g.Handlers(), healthy: g.Healthy, reloaded: g.Reloaded, tasks: []daemon.Task{g.Run}}
			before := *node
			r.reload = func(_ context.Context, node *nodeFile) error {
				if node.GSS == nil {
					return errors.New("the node file has no section for gss any more; stop the role instead")
				}
				if before.host() == "gss" && !reflect.DeepEqual(node.RHI, before.RHI) || node.host() != before.host() {
					return errors.New("rhi: it cannot change while the site selector runs; restart the role")
				}
				return g.Reload(*node.GSS)
			}
			if node.host() == "gss" {
				speaker := rhi.New(*node.RHI, rhi.Options{Log: log, Registry: reg})
				addRHIStatus(r.status, speaker)
				r.tasks = []daemon.Task{while(g.Answering(), speaker.Run, g.Run)}
			}
			return r, nil
		})
}

func newReal(e env) *cobra.Command {
	const long = `Makes this server a real of its VIPs: puts them on lo, quiet towards the network, and takes off
the outer header of what balancers send, in XDP on each uplink. With real.agent in the node file it
also tells balancers at once of refused connections, full queues, flows and load.`
	return roleCommand(e, "real", "real", "Be a real: take off the balancer's header, hold the VIPs", long,
		func(node *nodeFile, log *slog.Logger, reg *prometheus.Registry) (*running, error) {
			if node.Real == nil {
				return nil, nil
			}
			r, err := real.New(*node.Real, real.Options{Log: log, Registry: reg})
			if err != nil {
				return nil, err
			}
			return &running{status: r.Status(), healthy: r.Healthy, tasks: []daemon.Task{r.Run}}, nil
		})
}

// lastQueries is for how long a site selector answers after its addresses have been withdrawn: what was sent on the way there
// before arrives meanwhile.
const lastQueries = time.Second

// while runs a speaker as long as a site selector answers at the addresses that it announces: from the first answer on, and
// until they are withdrawn before the last. If either fails, the other stops too.
func while(answering <-chan struct{}, speaker, selector daemon.Task) daemon.Task {
	return func(ctx context.Context) error {
		speaking, stopSpeaker := context.WithCancel(ctx)
		defer stopSpeaker()
		selecting, stopSelector := context.WithCancel(context.WithoutCancel(ctx))
		defer stopSelector()
		spoken := make(chan error, 1)
		go func() {
			defer stopSelector()
			select {
			case <-speaking.Done():
				spoken <- nil
				return
			case <-answering:
			}
			spoken <- speaker(speaking)
			if ctx.Err() != nil {
				time.Sleep(lastQueries)
			}
		}()
		err := selector(selecting)
		stopSpeaker()
		return errors.Join(err, <-spoken)
	}
}

// beside runs a speaker as long as the balancer whose VIPs it announces, and a little longer: the balancer withdraws
// them when it is told to stop. The speaker begins when the balancer has what is its own, so that routers hear nothing of a
// second process. If the speaker fails, the balancer stops too.
func beside(taken <-chan struct{}, speaker, balancer daemon.Task) daemon.Task {
	return func(ctx context.Context) error {
		ctx, stopBalancer := context.WithCancel(ctx)
		defer stopBalancer()
		speaking, stopSpeaker := context.WithCancel(context.WithoutCancel(ctx))
		defer stopSpeaker()
		spoken := make(chan error, 1)
		go func() {
			defer stopBalancer()
			select {
			case <-speaking.Done():
				spoken <- nil
			case <-taken:
				spoken <- speaker(speaking)
			}
		}()
		err := balancer(ctx)
		stopSpeaker()
		return errors.Join(err, <-spoken)
	}
}
