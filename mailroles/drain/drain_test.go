package drain

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/porttest"
	"anycastle/internal/probe"
	"anycastle/mailroles/accept"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

const farewell = "421 going away\r\n"

// echo is a service that answers lines. Its sessions end at the end of one, and are cut off at the grace.
type echo struct {
	t        *testing.T
	grace    time.Duration
	addr     string
	sick     atomic.Bool
	open     atomic.Int32
	starts   atomic.Int32
	conns    sync.WaitGroup
	fails    chan error
	finished chan error
}

func (e *echo) listen(context.Context) ([]net.Listener, error) {
	ln, err := net.Listen("tcp", e.addr)
	if err != nil {
		return nil, err
	}
	return []net.Listener{ln}, nil
}

func (e *echo) serve(ctx context.Context, list []net.Listener) error {
	e.starts.Add(1)
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	go func() {
		select {
		case <-ctx.Done():
		case err := <-e.fails:
			e.finished <- err
		}
		list[0].Close()
	}()
	err := accept.Loop(ctx, list[0], func(conn net.Conn) {
		e.open.Add(1)
		e.conns.Go(func() {
			defer e.open.Add(-1)
			defer conn.Close()
			defer context.AfterFunc(hard, func() { conn.Close() })()
			b := make([]byte, 100)
			for ctx.Err() == nil {
				n, err := conn.Read(b)
				if err != nil {
					return
				}
				conn.Write(b[:n])
			}
		})
	})
	select {
	case err = <-e.finished:
	default:
	}
	timer := time.AfterFunc(e.grace, cut)
	defer timer.Stop()
	e.conns.Wait()
	return err
}

func (e *echo) healthy() error {
	if e.sick.Load() {
		return errors.New("no store\nis reached #1")
	}
	return nil
}

// run has the service run until the test ends, or stop is called.
func (e *echo) run(d *Drainer) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- d.Run(ctx, Service{
			Listen: e.listen, Serve: e.serve, Healthy: e.healthy, Farewell: func(int) string { return farewell },
			Sessions: func() int { return int(e.open.Load()) },
		})
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("Run goes on")
		}
	})
	e.t.Cleanup(func() { stop() })
	<-d.Ready()
	return stop
}

func newEcho(t *testing.T) *echo {
	return &echo{t: t, grace: patience, addr: porttest.Free(t, "127.0.0.1").String(), fails: make(chan error), finished: make(chan error, 1)}
}

// newDrainer makes a drainer, and gives where its agent listens.
func newDrainer(t *testing.T, lead time.Duration) (*Drainer, netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(ln.Addr().String())
	cfg := Config{AgentListen: config.ListenAddr{Addr: at.Addr(), Port: at.Port()}, Lead: lead, Deadline: time.Minute}
	listen := func(context.Context, string, string) (net.Listener, error) { return ln, nil }
	return New(cfg, listen, slog.New(slog.DiscardHandler)), at
}

// ask gives what the agent says.
func ask(t *testing.T, at netip.AddrPort) string {
	t.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func echoes(t *testing.T, conn net.Conn) {
	t.Helper()
	b := make([]byte, 2)
	if _, err := io.WriteString(conn, "x\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "x\n" {
		t.Fatalf("%q, %v came back", b, err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain: " + what)
		}
	}
}

func TestDrainAndActivate(t *testing.T) {
	e := newEcho(t)
	d, agent := newDrainer(t, 200*time.Millisecond)
	stop := e.run(d)
	if got := ask(t, agent); got != "ready up\n" {
		t.Errorf("agent says %q while the role serves", got)
	}
	e.sick.Store(true)
	if got := ask(t, agent); got != "ready down #no store is reached  1\n" {
		t.Errorf("agent says %q while the role is of no use", got)
	}
	e.sick.Store(false)
	old := dial(t, e.addr)
	echoes(t, old)

	d.want(true, Order{By: "root", Why: "upgrade"})
	waitFor(t, "draining", func() bool { return d.Status().State == Draining })
	if got := ask(t, agent); got != "up drain\n" {
		t.Errorf("agent says %q while the role drains", got)
	}
	late := dial(t, e.addr) // the balancer has not heard of it
	echoes(t, late)
	s := d.Status()
	if s.Why != "order by root: upgrade" || s.Sessions != 2 || s.Until.Before(time.Now()) {
		t.Errorf("status is %+v", s)
	}
	waitFor(t, "nobody is let in", func() bool {
		conn := dial(t, e.addr)
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // during the lead nothing is said
		text, err := io.ReadAll(conn)
		return err == nil && string(text) == farewell
	})
	echoes(t, old) // it ends after the line that it is at
	echoes(t, late)
	waitFor(t, "stopped", func() bool { return d.Status().State == Stopped })
	if got := ask(t, agent); got != "up maint\n" || !errors.Is(d.Healthy(), ErrStopped) {
		t.Errorf("agent says %q when the role is stopped, its health is %v", got, d.Healthy())
	}
	if conn, err := net.Dial("tcp", e.addr); err == nil {
		conn.Close()
		t.Error("the socket of a role that is stopped is open")
	}

	d.want(false, Order{By: "root"})
	waitFor(t, "serving", func() bool { return d.Status().State == Serving })
	echoes(t, dial(t, e.addr))
	if got := ask(t, agent); got != "ready up\n" || d.Healthy() != nil || e.starts.Load() != 2 {
		t.Errorf("agent says %q after the drain, health %v, %d starts", got, d.Healthy(), e.starts.Load())
	}
	e.grace = 0
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestDrainIsTakenBack(t *testing.T) {
	e := newEcho(t)
	d, agent := newDrainer(t, 2*time.Second)
	e.run(d)
	conn := dial(t, e.addr)
	d.want(true, Order{})
	waitFor(t, "draining", func() bool { return ask(t, agent) == "up drain\n" })
	d.want(false, Order{})
	waitFor(t, "serving", func() bool { return ask(t, agent) == "ready up\n" })
	echoes(t, conn)
	if e.starts.Load() != 1 {
		t.Errorf("%d starts", e.starts.Load())
	}
	d.want(true, Order{}) // and the end of the process goes through it, not beside it
	waitFor(t, "draining again", func() bool { return ask(t, agent) == "up drain\n" })
	d.want(false, Order{})
}

// TestEndOfTheProcess drains as an order does, and ends.
func TestEndOfTheProcess(t *testing.T) {
	e := newEcho(t)
	e.grace = 50 * time.Millisecond
	d, agent := newDrainer(t, 100*time.Millisecond)
	stop := e.run(d)
	conn := dial(t, e.addr)
	echoes(t, conn)
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	waitFor(t, "draining", func() bool { return ask(t, agent) == "up drain\n" })
	echoes(t, conn) // the lead
	if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a session goes on: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", agent.String()); err == nil {
		conn.Close()
		t.Error("the agent answers after the end")
	}
}

func TestServiceFails(t *testing.T) {
	e := newEcho(t)
	broken := errors.New("broken")
	d, _ := newDrainer(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	e.grace = 0
	done := make(chan error, 1)
	go func() {
		done <- d.Run(ctx, Service{
			Listen: e.listen, Serve: e.serve, Healthy: e.healthy,
			Farewell: func(int) string { return "" }, Sessions: func() int { return 0 },
		})
	}()
	<-d.Ready()
	e.fails <- broken
	if err := <-done; !errors.Is(err, broken) {
		t.Errorf("Run ends with %v", err)
	}
}

// TestBalancersProbeFollows has the probe of load balancers read the agent.
func TestBalancersProbeFollows(t *testing.T) {
	e := newEcho(t)
	d, agent := newDrainer(t, 50*time.Millisecond)
	e.run(d)
	cfg := probe.Config{Type: "agent-check", Interval: 5 * time.Millisecond, Timeout: time.Second, Fail: 1, Pass: 1}
	ctx, cancel := context.WithCancel(t.Context())
	var probing sync.WaitGroup
	var last atomic.Pointer[probe.Result]
	probing.Go(func() {
		_ = probe.Run(ctx, []probe.Target{{Name: "agent", Addr: agent, Config: &cfg}}, nil, func(r probe.Result) { last.Store(&r) })
	})
	defer probing.Wait()
	defer cancel()
	says := func(state probe.State, admin probe.Admin) {
		t.Helper()
		waitFor(t, string(admin), func() bool {
			r := last.Load()
			return r != nil && r.State == state && r.Admin == admin && r.Weight == 100
		})
	}
	says(probe.Passing, probe.AdminReady)
	e.sick.Store(true)
	says(probe.Failing, probe.AdminReady)
	e.sick.Store(false)
	says(probe.Passing, probe.AdminReady)
	d.want(true, Order{})
	says(probe.Passing, probe.AdminDrain)
	says(probe.Passing, probe.AdminMaint)
	d.want(false, Order{})
	says(probe.Passing, probe.AdminReady)
}

func TestConfig(t *testing.T) {
	for text, want := range map[string]string{
		"drain: {}": "",
		"drain: {agent_listen: \":9707\", drain_lead: 0s, drain_deadline: 1m}": "",
		"drain: {drain_lead: -1s}":                "drain.drain_lead: -1s must be from 0 to 10m0s",
		"drain: {drain_lead: 11m}":                "drain.drain_lead: 11m0s must be from 0 to 10m0s",
		"drain: {drain_deadline: 10ms}":           "drain.drain_deadline: 10ms must be from 1s to 1h0m0s",
		"drain: {agent_listen: nowhere}":          "drain.agent_listen: ",
		"drain: {agent_listen: \":9707\", x: 1s}": "x",
	} {
		doc, err := config.Parse("node.yml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var c Config
		c.Validate(doc.Decode("drain", &c))
		if err := doc.Err(); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	var c Config
	c.SetDefaults()
	if c.Lead != 2*time.Second || c.lead() != 0 || c.Deadline != 30*time.Second {
		t.Errorf("defaults are %+v, lead %v", c, c.lead())
	}
}
