package balancer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anycastle/internal/vipreport"
)

const (
	patience = 2 * time.Second // for a connection and a handshake each
	silence  = 3 * time.Second // after which a balancer that says nothing is lost; it speaks each vipreport.Beat

	retryFirst = 50 * time.Millisecond
	retryLast  = 500 * time.Millisecond // and up to as much again, by chance
)

// Balancer is one of our balancers.
type Balancer struct {
	Name    string         `yaml:"name"`
	Site    string         `yaml:"site"`    // it tells of the answers of this site; default of any site
	Address netip.AddrPort `yaml:"address"` // lb.report.listen of it; its certificate must name the address
}

// Options are what a Set needs besides its balancers.
type Options struct {
	TLS     func() *tls.Config // of the next connection (mtls.Material.Client)
	Log     *slog.Logger       // nil: silent
	Changed func()             // a balancer says something else than before; it is not to wait. nil: nobody is told
	// Dial opens a connection on which the balancer speaks. nil: TCP and TLS.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// Set hears balancers. Its methods are safe for concurrent use.
type Set struct {
	o Options

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before and after
	order   []Balancer      // those that count
	readers map[Balancer]*reader
	running sync.WaitGroup
}

// New makes a Set without balancers.
func New(o Options) *Set {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Dial == nil {
		o.Dial = o.dialTLS
	}
	return &Set{o: o, readers: map[Balancer]*reader{}}
}

// dialTLS opens a connection with certificates as they are now.
func (o *Options) dialTLS(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	raw, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	settings := vipreport.Ask(o.TLS())
	settings.ServerName = to.Addr().String()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn := tls.Client(raw, settings)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no TLS handshake within %v", patience)
		}
		return nil, err
	}
	return conn, nil
}

// SetBalancers makes the list all that count, and has others, which are to come, be heard already. What was heard of those that
// stay counts on.
func (s *Set) SetBalancers(list []Balancer, others ...Balancer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = append([]Balancer{}, list...)
	wanted := map[Balancer]bool{}
	for _, b := range slices.Concat(list, others) {
		wanted[b] = true
		if s.readers[b] == nil {
			s.readers[b] = &reader{Balancer: b, o: &s.o, log: s.o.Log.With("balancer", b.Name), is: Status{Balancer: b, Since: time.Now()}}
			s.start(s.readers[b])
		}
	}
	for b, r := range s.readers {
		if !wanted[b] {
			delete(s.readers, b)
			if r.stop != nil {
				r.stop()
			}
		}
	}
}

// start has a reader read once Run runs. mu is held.
func (s *Set) start(r *reader) {
	if s.ctx == nil {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	r.stop = cancel
	s.running.Go(func() {
		defer cancel()
		r.run(ctx)
	})
}

// Run hears the balancers until ctx is done, and gives ctx's error. It may be called once.
func (s *Set) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	for _, r := range s.readers {
		s.start(r)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.ctx = nil // from now on nothing is started
	s.mu.Unlock()
	s.running.Wait()
	return ctx.Err()
}

// all gives the readers in the order of their balancers.
func (s *Set) all() []*reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*reader, 0, len(s.order))
	for _, b := range s.order {
		list = append(list, s.readers[b])
	}
	return list
}

// Status is how the connection to a balancer is.
type Status struct {
	Balancer
	Connected  bool
	Since      time.Time // of that
	Heard      time.Time // when the last report came; zero: none ever did
	VIPs       int       // of the last reports
	Generation uint64    // of the last report
	Reports    uint64    // that came
	Lost       uint64    // connections that ended
	Err        error     // why the last one ended or could not be made; nil: there was none, or it is there
}

// Status says how each connection is, in the order of the balancers.
func (s *Set) Status() []Status {
	list := []Status{}
	for _, r := range s.all() {
		list = append(list, r.status())
	}
	return list
}

// reader hears one balancer.
type reader struct {
	Balancer
	o    *Options
	log  *slog.Logger
	stop context.CancelFunc // the Set's mu guards it

	mu      sync.Mutex
	is      Status
	vips    map[string]vipreport.VIP // the last that was said of each
	at      map[string]time.Time     // and when
	byAddr  map[netip.Addr][]string  // their names
	expires time.Duration
}

// run hears one connection after the other until ctx is done.
func (r *reader) run(ctx context.Context) {
	wait := retryFirst
	for {
		heard, err := r.hear(ctx)
		if ctx.Err() != nil {
			return
		}
		if heard {
			wait = retryFirst
		}
		r.lose(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait + rand.N(wait)):
		}
		wait = min(2*wait, retryLast)
	}
}

// hear takes what a balancer says on one connection, until something is wrong with that.
func (r *reader) hear(ctx context.Context) (heard bool, err error) {
	conn, err := r.o.Dial(ctx, r.Address)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for stream := vipreport.NewStream(conn); ; heard = true {
		if err := conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return heard, err
		}
		report, err := stream.Next()
		var slow net.Error
		if errors.As(err, &slow) && slow.Timeout() {
			return heard, fmt.Errorf("it says nothing for %v", silence)
		}
		if err != nil {
			return heard, fmt.Errorf("the balancer's stream ended: %w", err)
		}
		if r.take(report, time.Now()) {
			r.o.Changed()
		}
	}
}

// take takes a report and says whether it says something else than before.
func (r *reader) take(report vipreport.Report, now time.Time) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.is.Connected {
		r.log.Info("balancer is heard", "vips", len(report.VIPs))
		r.is.Connected, r.is.Since, r.is.Err = true, now, nil
	}
	was := r.vips
	if report.Whole || was == nil {
		r.vips, r.at = map[string]vipreport.VIP{}, map[string]time.Time{}
		news = len(was) != len(report.VIPs)
	}
	for _, v := range report.VIPs {
		old, ok := was[v.Name]
		if len(r.vips) >= vipreport.MaxVIPs && !ok {
			continue // more than there can be
		}
		if !report.Whole {
			v.PacketsPerSecond, v.BytesPerSecond = old.PacketsPerSecond, old.BytesPerSecond
		}
		r.vips[v.Name], r.at[v.Name] = v, now
		news = news || !ok || old.Steady() != v.Steady() || old.Flows != v.Flows
		if ok && old.Steady() != v.Steady() {
			r.log.Info("VIP changed at a balancer", "vip", v.Name, "old", old.State, "new", v.State, "route", v.Route,
				"draining", v.Draining, "in_service", v.InService, "cause", say(v).Why)
		}
	}
	if news {
		r.byAddr = map[netip.Addr][]string{}
		for name, v := range r.vips {
			r.byAddr[v.Address] = append(r.byAddr[v.Address], name)
		}
	}
	r.expires = report.Expires
	r.is.Heard, r.is.Generation, r.is.VIPs = now, report.Generation, len(r.vips)
	r.is.Reports++
	return news
}

// lose notes that the balancer is not heard any more, or still not.
func (r *reader) lose(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.is.Connected || r.is.Err == nil {
		attrs := []any{"err", err}
		if !r.is.Heard.IsZero() {
			attrs = append(attrs, "last_report", r.is.Heard)
		}
		r.log.Warn("balancer is not heard; what it said last ages", attrs...)
	}
	if r.is.Connected {
		r.is.Connected, r.is.Since = false, time.Now()
		r.is.Lost++
	}
	r.is.Err = err
}

func (r *reader) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.is
}
