package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"anycastle/internal/daemon"
)

// State is what a role does.
type State string

// The states of a role.
const (
	Starting State = "starting" // its sockets are not open yet
	Serving  State = "serving"
	Draining State = "draining"
	Stopped  State = "stopped" // drained on an order; another one puts it back
)

// ErrStopped is the health of a role that has been drained on an order.
var ErrStopped = errors.New("drained on an order")

// Order is what an operator wants.
type Order struct {
	By  string `json:"by,omitempty"`
	Why string `json:"why,omitempty"`
}

// String gives the order as a reason.
func (o Order) String() string {
	text := "order"
	if o.By != "" {
		text += " by " + o.By
	}
	if o.Why != "" {
		text += ": " + o.Why
	}
	return text
}

// Status tells how a role stands.
type Status struct {
	State    State     `json:"state"`
	Why      string    `json:"why"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until,omitzero"` // when what is left is cut off; zero unless it drains
	Sessions int       `json:"sessions"`       // open now
}

// Service is what is drained. Its functions are called one at a time, but for Healthy and Sessions.
type Service struct {
	// Listen opens all sockets, or none.
	Listen func(ctx context.Context) ([]net.Listener, error)
	// Serve serves until ctx is done, and closes the listeners. Its sessions then end within the deadline.
	Serve func(ctx context.Context, listeners []net.Listener) error
	// Farewell is what is said to who connects to the i-th listener while the role drains; empty: nothing.
	Farewell func(i int) string
	Healthy  func() error // nil while the service is of use
	Sessions func() int
}

// Drainer has a service serve, drain and stop.
type Drainer struct {
	cfg    Config
	listen func(ctx context.Context, network, address string) (net.Listener, error)
	log    *slog.Logger
	ready  chan struct{} // closed when it has served for the first time
	once   sync.Once

	mu      sync.Mutex
	status  Status
	svc     Service       // once Run has been called
	drained bool          // an operator wants it so
	order   Order         // of that
	changed chan struct{} // closed when drained changes
}

// New makes a drainer. listen opens the agent listener.
func New(cfg Config, listen func(ctx context.Context, network, address string) (net.Listener, error), log *slog.Logger) *Drainer {
	return &Drainer{
		cfg: cfg, listen: listen, log: log, ready: make(chan struct{}), changed: make(chan struct{}),
		status: Status{State: Starting, Why: "start", Since: time.Now()},
	}
}

// Deadline is how long sessions have for their end.
func (d *Drainer) Deadline() time.Duration { return d.cfg.Deadline }

// Ready is closed when the role serves for the first time.
func (d *Drainer) Ready() <-chan struct{} { return d.ready }

// Status gives how the role stands.
func (d *Drainer) Status() Status {
	d.mu.Lock()
	s, sessions := d.status, d.svc.Sessions
	d.mu.Unlock()
	if sessions != nil {
		s.Sessions = sessions()
	}
	return s
}

// Healthy is nil unless the role has been stopped.
func (d *Drainer) Healthy() error {
	if s := d.Status(); s.State == Stopped {
		return fmt.Errorf("%w: %s", ErrStopped, s.Why)
	}
	return nil
}

// Handlers take orders on the role's socket: POST /v1/drain and POST /v1/activate with an Order, answered with the Status.
func (d *Drainer) Handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/drain":    daemon.Answer(d.log, func(o Order) (Status, error) { return d.want(true, o), nil }),
		"POST /v1/activate": daemon.Answer(d.log, func(o Order) (Status, error) { return d.want(false, o), nil }),
	}
}

// want takes an order. A drain comes into force at once, and so does what takes it back during the lead; after that the
// drain comes to its end first.
func (d *Drainer) want(drained bool, o Order) Status {
	d.mu.Lock()
	if d.drained != drained {
		d.drained, d.order = drained, o
		close(d.changed)
		d.changed = make(chan struct{})
		d.log.Info("order", "drained", drained, "why", o.String())
	}
	d.mu.Unlock()
	return d.Status()
}

// wanted says what is wanted, and gives a channel that is closed when that changes.
func (d *Drainer) wanted() (drained bool, why string, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.drained, d.order.String(), d.changed
}

func (d *Drainer) set(state State, why string, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.status.State == state {
		return
	}
	d.log.Info("role changed state", "old", string(d.status.State), "new", string(state), "why", why)
	d.status = Status{State: state, Why: why, Since: time.Now(), Until: until}
}

// Run serves until ctx ends, and drains then. In between it drains, and serves again, on orders.
func (d *Drainer) Run(ctx context.Context, svc Service) error {
	d.mu.Lock()
	d.svc = svc
	d.mu.Unlock()
	if d.cfg.announced() {
		stop, err := d.serveAgent(ctx)
		if err != nil {
			return err
		}
		defer stop()
	}
	for {
		drained, why, changed := d.wanted()
		if !drained {
			if err := d.serve(ctx, svc); err != nil || ctx.Err() != nil {
				return err
			}
			continue
		}
		d.set(Stopped, why, time.Time{})
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// serve opens the sockets, and serves until the service has been drained.
func (d *Drainer) serve(ctx context.Context, svc Service) error {
	listeners, err := svc.Listen(ctx)
	if err != nil {
		return err
	}
	gates := make([]*gate, len(listeners))
	for i, ln := range listeners {
		gates[i] = newGate(ln, svc.Farewell(i))
		listeners[i] = gates[i]
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- svc.Serve(serving, listeners) }()
	_, why, _ := d.wanted()
	if d.Status().State == Starting {
		why = "start"
	}
	d.set(Serving, why, time.Time{})
	d.once.Do(func() { close(d.ready) })
	err, over := d.untilDrained(ctx, failed)
	if !over {
		var leaving sync.WaitGroup
		stop()
		for _, g := range gates {
			leaving.Go(g.turnAway)
		}
		err = <-failed
		defer leaving.Wait()
	}
	for _, g := range gates {
		if cerr := g.end(); cerr != nil {
			d.log.Debug("close listener", "err", cerr)
		}
	}
	return err
}

// untilDrained waits until nobody is to be let in any more. over says that the service has ended by itself.
func (d *Drainer) untilDrained(ctx context.Context, failed <-chan error) (err error, over bool) {
	for {
		drained, why, changed := d.wanted()
		if !drained && ctx.Err() == nil {
			d.set(Serving, why, time.Time{})
			select {
			case err := <-failed:
				return err, true
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		if ctx.Err() != nil {
			why, changed = "the process is told to stop", nil
		}
		lead := d.cfg.lead()
		d.set(Draining, why, time.Now().Add(lead+d.cfg.Deadline))
		select {
		case err := <-failed:
			return err, true
		case <-changed: // taken back
		case <-time.After(lead):
			return nil, false
		}
	}
}
