package gssbench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anycastle/internal/proctest"
)

const (
	period  = 100 * time.Millisecond // of a client
	dialing = 2 * time.Second        // for a connection

	// As glibc's resolver does, the client repeats a question once that has no reply, and then gives it up.
	repeating = 5 * time.Second
	waiting   = 2 * repeating
)

// client asks a resolver ten times a second, whatever becomes of the questions before, and connects to what it is told.
type client struct {
	t      testing.TB
	w      *world
	host   string
	conn   *dns.Conn
	name   func(n int) string // what it asks for the n-th time
	dials  bool
	stop   context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	asked  []*question
	byID   map[uint16]*question
	number int
}

// question is one that the client asked, and what became of it.
type question struct {
	message   *dns.Msg
	repeated  bool
	sent      time.Time
	answered  time.Time // zero: not within the time that clients wait
	rcode     int
	addrs     []netip.Addr
	connected time.Time // zero: not, or not tried
	site      byte      // that greeted it
}

// startClient starts a client on a host, of the resolver that listens at the address. It ends with the test, if not before.
func (w *world) startClient(host, resolver string, dials bool, name func(n int) string) *client {
	w.t.Helper()
	conn, err := w.dial(host, resolver)
	proctest.Check(w.t, err)
	ctx, stop := context.WithCancel(w.t.Context())
	c := &client{t: w.t, w: w, host: host, conn: &dns.Conn{Conn: conn, UDPSize: 1232}, name: name, dials: dials, stop: stop,
		byID: map[uint16]*question{}}
	c.wg.Go(c.read)
	c.wg.Go(func() {
		defer conn.Close() // ends read
		c.ask(ctx)
	})
	w.t.Cleanup(c.end)
	return c
}

// end stops the client and waits for it.
func (c *client) end() {
	c.stop()
	c.wg.Wait()
}

func (c *client) ask(ctx context.Context) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, m := range c.due(time.Now()) {
			_ = c.conn.WriteMsg(m) // what cannot be sent has no reply
		}
	}
}

// due gives what is to be sent now: questions to repeat, and a new one. Those that have waited for too long are given up: a
// reply after that is one to nobody.
func (c *client) due(now time.Time) (list []*dns.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, q := range c.byID {
		switch age := now.Sub(q.sent); {
		case age > waiting:
			delete(c.byID, id)
		case age > repeating && !q.repeated:
			q.repeated = true
			list = append(list, q.message)
		}
	}
	m := new(dns.Msg).SetQuestion(c.name(c.number), dns.TypeA)
	for c.byID[m.Id] != nil {
		m.Id = dns.Id()
	}
	q := &question{message: m, sent: now}
	c.number++
	c.byID[m.Id], c.asked = q, append(c.asked, q)
	return append(list, m)
}

func (c *client) read() {
	for {
		m, err := c.conn.ReadMsg()
		if err != nil {
			if strings.Contains(err.Error(), net.ErrClosed.Error()) {
				return
			}
			continue // a refused port, or no message
		}
		if q := c.take(m); q != nil && c.dials && len(q.addrs) > 0 {
			c.wg.Go(func() { c.connect(q) })
		}
	}
}

// take notes the reply to a question, and gives it; nil: it is to none that is still open.
func (c *client) take(m *dns.Msg) *question {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.byID[m.Id]
	if q == nil {
		return nil
	}
	delete(c.byID, m.Id)
	q.answered, q.rcode = time.Now(), m.Rcode
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			addr, _ := netip.AddrFromSlice(a.A.To4())
			q.addrs = append(q.addrs, addr)
		}
	}
	return q
}

// connect connects to the first address of a reply, as most clients do.
func (c *client) connect(q *question) {
	c.w.hosts[c.host].Do(func() error {
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(q.addrs[0], 25).String(), dialing)
		if err != nil {
			return nil
		}
		defer conn.Close()
		var greeting [1]byte
		if conn.SetDeadline(time.Now().Add(dialing)) != nil {
			return nil
		}
		if n, _ := conn.Read(greeting[:]); n == 1 {
			c.mu.Lock()
			defer c.mu.Unlock()
			q.connected, q.site = time.Now(), greeting[0]
		}
		return nil
	})
}

// questions gives those that were asked in a time, as they stand.
func (c *client) questions(from, to time.Time) (list []question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range c.asked {
		if !q.sent.Before(from) && q.sent.Before(to) {
			list = append(list, *q)
		}
	}
	return list
}

// latest is by how much the client was late to ask, in a time.
func (c *client) latest(from, to time.Time) (late time.Duration) {
	list := c.questions(from, to)
	for i := range list[1:] {
		late = max(late, list[i+1].sent.Sub(list[i].sent)-period)
	}
	return late
}

// last gives the last reply, and whether it came lately.
func (c *client) last() (q question, lately bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range slices.Backward(c.asked) {
		if !q.answered.IsZero() {
			return *q, time.Since(q.answered) < 10*period
		}
	}
	return q, false
}

// settled says whether the client is told a site's VIP alone, and connects to it.
func (c *client) settled(site string) bool {
	q, lately := c.last()
	return lately && q.rcode == dns.RcodeSuccess && slices.Equal(q.addrs, []netip.Addr{vip4(site)})
}

// oldest is when the oldest question was asked that has neither a reply nor been given up.
func (c *client) oldest() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := time.Now()
	for _, q := range c.byID {
		if q.sent.Before(oldest) {
			oldest = q.sent
		}
	}
	return oldest
}

// faults is what clients may never meet.
type faults struct {
	questions, servfails, empty, timeouts int
	slowest                               time.Duration // to be answered
}

// faults counts what became of the questions of a time, of which none is open any more.
func (c *client) faults(from, to time.Time) (f faults) {
	for _, q := range c.questions(from, to) {
		f.questions++
		switch {
		case q.answered.IsZero():
			f.timeouts++
		case q.rcode != dns.RcodeSuccess:
			f.servfails++
		case len(q.addrs) == 0:
			f.empty++
		}
		if !q.answered.IsZero() {
			f.slowest = max(f.slowest, q.answered.Sub(q.sent))
		}
	}
	return f
}

func (f faults) any() bool { return f.servfails+f.empty+f.timeouts > 0 }

func (f faults) and(g faults) faults {
	return faults{f.questions + g.questions, f.servfails + g.servfails, f.empty + g.empty, f.timeouts + g.timeouts,
		max(f.slowest, g.slowest)}
}

func (f faults) String() string {
	return fmt.Sprintf("%d errors, %d empty replies and %d without a reply, of %d questions; the slowest took %v", f.servfails,
		f.empty, f.timeouts, f.questions, f.slowest.Round(time.Millisecond))
}
