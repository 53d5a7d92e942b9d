package bfd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// wire joins two sessions by a link with a latency, on a clock of its own.
type wire struct {
	now    time.Time
	end    [2]*session
	deaf   [2]bool // what is sent to this end is lost
	stuck  [2]bool // this end does not run
	flying []flight
	sent   [2][]sent
	log    [2][]outcome // changes of state
}

type flight struct {
	at   time.Time
	to   int
	data []byte
}

type sent struct {
	at time.Time
	packet
}

const latency = 2 * ms

func testConfig(peer string) Config {
	return Config{Peer: peer, Remote: netip.MustParseAddr("192.0.2.1"), Transmit: 100 * ms, Receive: 100 * ms}.normal()
}

// newWire joins sessions of two configs; random is the jitter's.
func newWire(a, b Config, random func() float64) *wire {
	w := &wire{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for i, c := range []Config{a, b} {
		w.end[i] = newSession(c, uint32(i+1), 0xfffffff0, random, w.now) // sequence numbers that soon wrap
	}
	return w
}

func newTestWire() *wire { return newWire(testConfig("b"), testConfig("a"), rand.Float64) }

// do is what the speaker does with an outcome.
func (w *wire) do(i int, o outcome) {
	s := w.end[i]
	if o.changed() {
		w.log[i] = append(w.log[i], o)
	}
	if !o.send {
		return
	}
	p := s.compose(w.now, &o)
	var room [packetLen]byte
	b := p.encode(&room)
	if p.auth {
		s.auth.sign(b, &s.cfg.Key)
	}
	w.sent[i] = append(w.sent[i], sent{w.now, p})
	if !w.deaf[1-i] {
		w.flying = append(w.flying, flight{w.now.Add(latency), 1 - i, b})
	}
}

func (w *wire) configure(i int, change func(*Config)) {
	c := w.end[i].cfg
	change(&c)
	w.do(i, w.end[i].configure(w.now, c))
}

// run lets the time pass.
func (w *wire) run(d time.Duration) {
	for end := w.now.Add(d); ; {
		at, to, flying := end, -1, false
		for i, s := range w.end {
			if next := s.next(); !w.stuck[i] && !next.IsZero() && next.Before(at) {
				at, to = next, i
			}
		}
		for _, f := range w.flying {
			if !w.stuck[f.to] && f.at.Before(at) {
				at, to, flying = f.at, f.to, true
			}
		}
		if at.After(w.now) {
			w.now = at
		}
		switch {
		case to < 0:
			return
		case flying:
			w.deliver(to)
		default:
			w.do(to, w.end[to].tick(w.now))
		}
	}
}

// deliver takes the oldest packet to an end.
func (w *wire) deliver(to int) {
	for i, f := range w.flying {
		if f.to != to {
			continue
		}
		w.flying = append(w.flying[:i], w.flying[i+1:]...)
		var p packet
		if why := p.decode(f.data); why != taken {
			panic(why)
		}
		w.do(to, w.end[to].receive(w.now, f.at, &p, f.data))
		return
	}
}

func (w *wire) states() string { return fmt.Sprintf("%v/%v", w.end[0].state, w.end[1].state) }

func (w *wire) mustBe(t *testing.T, want string) {
	t.Helper()
	if got := w.states(); got != want {
		t.Fatalf("states are %s, want %s", got, want)
	}
}

func (w *wire) bringUp(t *testing.T) *wire {
	t.Helper()
	w.run(5 * time.Second)
	w.mustBe(t, "up/up")
	w.sent, w.log = [2][]sent{}, [2][]outcome{}
	return w
}

func TestComesUpAndAgrees(t *testing.T) {
	a, b := testConfig("b"), testConfig("a")
	a.Transmit, b.Receive, b.Multiplier = 50*ms, 200*ms, 5
	w := newWire(a, b, rand.Float64)
	w.run(3 * time.Second)
	w.mustBe(t, "up/up")
	for i, want := range []struct{ tx, rx, detection time.Duration }{{200 * ms, 100 * ms, 500 * ms}, {100 * ms, 200 * ms, 600 * ms}} {
		s := w.end[i]
		if tx, rx, d := s.timers.txInterval(), s.timers.rxInterval(), s.detection(); tx != want.tx || rx != want.rx || d != want.detection {
			t.Errorf("end %d: sends every %v, hears every %v, gives up after %v; want %+v", i, tx, rx, d, want)
		}
		if s.polling || s.diag != NoDiag || s.ups != 1 || s.downs != 0 {
			t.Errorf("end %d: polling %v, diag %v, %d ups, %d downs", i, s.polling, s.diag, s.ups, s.downs)
		}
	}
}

// TestStateMachine is the table of RFC 5880 6.2 and 6.8.6.
func TestStateMachine(t *testing.T) {
	for _, c := range []struct {
		have, hear, want State
		diag             Diag
	}{
		{AdminDown, AdminDown, AdminDown, AdministrativeDown},
		{AdminDown, Down, AdminDown, AdministrativeDown},
		{AdminDown, Init, AdminDown, AdministrativeDown},
		{AdminDown, Up, AdminDown, AdministrativeDown},
		{Down, AdminDown, Down, NoDiag},
		{Down, Down, Init, NoDiag},
		{Down, Init, Up, NoDiag},
		{Down, Up, Down, NoDiag},
		{Init, AdminDown, Down, NeighborSignalled},
		{Init, Down, Init, NoDiag},
		{Init, Init, Up, NoDiag},
		{Init, Up, Up, NoDiag},
		{Up, AdminDown, Down, NeighborSignalled},
		{Up, Down, Down, NeighborSignalled},
		{Up, Init, Up, NoDiag},
		{Up, Up, Up, NoDiag},
	} {
		t.Run(fmt.Sprintf("%v hears %v", c.have, c.hear), func(t *testing.T) {
			s := newTestWire().end[0]
			if s.state = c.have; c.have == AdminDown {
				s.diag, s.cfg.AdminDown = AdministrativeDown, true
			}
			now := s.since.Add(time.Second)
			o := s.receive(now, now, &packet{state: c.hear, mult: 3, my: 9, your: 1, tx: slow, rx: slow}, nil)
			if s.state != c.want || s.diag != c.diag {
				t.Errorf("becomes %v with %v, want %v with %v", s.state, s.diag, c.want, c.diag)
			}
			if o.changed() != (c.have != c.want) || o.send != o.changed() {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}

func TestSilenceAndOneWayLoss(t *testing.T) {
	w := newTestWire().bringUp(t)
	w.deaf[0] = true
	from := w.now
	w.run(2 * time.Second)
	w.mustBe(t, "down/init")
	if d := w.end[0].lastLoss; d.Diag != DetectionExpired || d.At.After(from.Add(latency)) {
		t.Errorf("the deaf end: %+v; it last heard something before %v", d, from.Add(latency))
	}
	if d := w.end[1].lastLoss; d.Diag != NeighborSignalled || d.RemoteDiag != DetectionExpired {
		t.Errorf("the end that is not heard: %+v", d)
	}
	took := w.log[0][0]
	if late := w.end[0].since.Sub(took.cause); late < 300*ms || late > 300*ms+latency {
		t.Errorf("given up %v after the last packet, want 300ms", late)
	}
	first := slices.IndexFunc(w.sent[0], func(p sent) bool { return p.state == Down })
	for i, p := range w.sent[0][first:] {
		if want := map[bool]uint32{true: 2, false: 0}[i == 0]; p.your != want {
			t.Errorf("packet %d after the loss is to discriminator %d, want %d: a silent peer is told, and then forgotten", i, p.your, want)
		}
	}
	w.deaf[0] = false
	w.bringUp(t)
}

func TestSlowWhileNotUp(t *testing.T) {
	w := newTestWire()
	w.deaf = [2]bool{true, true}
	w.run(20 * time.Second)
	for i, p := range w.sent[0] {
		if p.tx < slow {
			t.Errorf("packet %d says desired min TX %v while down", i, p.tx)
		}
		if i > 0 {
			if gap := p.at.Sub(w.sent[0][i-1].at); gap < 750*ms || gap > slow {
				t.Errorf("%v between two packets while down", gap)
			}
		}
	}
	if n := len(w.sent[0]); n < 20 || n > 27 {
		t.Errorf("%d packets in 20 s", n)
	}
}

func TestJitter(t *testing.T) {
	for _, c := range []struct {
		mult     uint8
		min, max float64
	}{{3, 0.875, 1}, {1, 0.825, 0.9}} { // by themselves, packets go in the upper half of what is allowed
		t.Run(fmt.Sprintf("multiplier %d", c.mult), func(t *testing.T) {
			a := testConfig("b")
			a.Multiplier = c.mult
			w := newWire(a, testConfig("a"), rand.Float64)
			w.deaf = [2]bool{true, true}
			w.end[0].state, w.end[0].remoteState = Up, Up
			w.end[0].announce()
			w.run(time.Minute)
			shares := make([]int, 4)
			for i := 1; i < len(w.sent[0]); i++ {
				part := float64(w.sent[0][i].at.Sub(w.sent[0][i-1].at)) / float64(100*ms)
				if part < c.min-0.001 || part > c.max {
					t.Fatalf("an interval of %.3f of what was agreed, want %.2f to %.2f", part, c.min, c.max)
				}
				shares[min(3, int(4*(part-c.min)/(c.max-c.min)))]++
			}
			for i, n := range shares {
				if n < len(w.sent[0])/8 {
					t.Errorf("quarter %d of the range has %d of %d intervals", i, n, len(w.sent[0]))
				}
			}
		})
	}
}

func TestAdminDown(t *testing.T) {
	w := newTestWire().bringUp(t)
	w.configure(0, func(c *Config) { c.AdminDown = true })
	w.run(5 * time.Second)
	w.mustBe(t, "admin-down/down")
	if d := w.end[0].diag; d != AdministrativeDown {
		t.Errorf("diag %v here", d)
	}
	if d := w.end[1]; d.diag != NeighborSignalled || d.remoteState != AdminDown || d.remoteDiag != AdministrativeDown {
		t.Errorf("there: %v, %v, %v", d.diag, d.remoteState, d.remoteDiag)
	}
	if len(w.log[1]) != 1 {
		t.Errorf("%d changes there, want one", len(w.log[1]))
	}
	w.configure(0, func(c *Config) { c.AdminDown = false })
	w.bringUp(t)
}

// A peer that wants no packets gets none (RFC 5880 6.8.7), until it asks for them again or has been silent.
func TestRemoteWantsNoPackets(t *testing.T) {
	w := newTestWire().bringUp(t)
	now := w.now
	s := w.end[0]
	s.receive(now, now, &packet{state: Up, mult: 3, my: 2, your: 1, tx: 100 * ms, rx: 0}, nil)
	if s.mayTransmit() || !s.next().Equal(s.timers.detectAt) {
		t.Error("it still means to send")
	}
	s.tick(now.Add(time.Second))
	if !s.mayTransmit() || s.state != Down {
		t.Errorf("after silence it is %v, and sends: %v", s.state, s.mayTransmit())
	}
}

func TestDemandModeOfPeer(t *testing.T) {
	w := newTestWire().bringUp(t)
	s := w.end[0]
	s.receive(w.now, w.now, &packet{state: Up, mult: 3, my: 2, your: 1, tx: 100 * ms, rx: 100 * ms, demand: true}, nil)
	if s.mayTransmit() {
		t.Error("it still means to send")
	}
	o := s.receive(w.now, w.now, &packet{state: Up, mult: 3, my: 2, your: 1, tx: 100 * ms, rx: 100 * ms, demand: true, poll: true}, nil)
	if p := s.compose(w.now, &o); !o.send || !p.final || p.poll {
		t.Errorf("a poll is answered with %+v", p)
	}
}

func TestOwnStallIsNoEvidence(t *testing.T) {
	w := newTestWire().bringUp(t)
	s := w.end[0]
	w.stuck[0] = true
	from := w.now
	w.run(250 * ms)
	w.flying = nil // nothing was kept for us either
	w.now = from.Add(2 * time.Second)
	s.stall(w.now, 1900*ms)
	if o := s.tick(w.now); o.changed() || s.state != Up || s.stalls != 1 {
		t.Fatalf("after a stall: %v, %d stalls", s.state, s.stalls)
	}
	if s.silent(w.now.Add(199*ms)) || !s.silent(w.now.Add(200*ms)) {
		t.Errorf("granted until %v after the stall, want 200ms", s.timers.detectAt.Sub(w.now))
	}
	s.stall(w.now, 100*ms)
	if s.stalls != 1 {
		t.Error("an interval's delay counts as a stall")
	}
	if o := s.tick(w.now.Add(200 * ms)); o.to != Down || s.diag != DetectionExpired {
		t.Errorf("a dead peer is not given up after a stall: %+v", o)
	}
}
