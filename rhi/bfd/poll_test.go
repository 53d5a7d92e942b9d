package bfd

import (
	"math/rand/v2"
	"testing"
	"time"
)

// A change for the worse waits for the Final; one for the better does not (RFC 5880 6.8.3).
func TestPollBeforeAChangeForTheWorse(t *testing.T) {
	for _, c := range []struct {
		name           string
		change         func(*Config)
		tx, rx         time.Duration // in force before the Final
		saidTx, saidRx time.Duration
	}{
		{"send less often", func(c *Config) { c.Transmit = 400 * ms }, 100 * ms, 100 * ms, 400 * ms, 100 * ms},
		{"send more often", func(c *Config) { c.Transmit = 50 * ms }, 50 * ms, 100 * ms, 50 * ms, 100 * ms},
		{"hear more often", func(c *Config) { c.Receive = 50 * ms }, 100 * ms, 100 * ms, 100 * ms, 50 * ms},
		{"hear less often", func(c *Config) { c.Receive = 400 * ms }, 100 * ms, 400 * ms, 100 * ms, 400 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := testConfig("b"), testConfig("a")
			a.Multiplier, b.Multiplier = 10, 10
			w := newWire(a, b, rand.Float64).bringUp(t)
			s := w.end[0]
			w.configure(0, c.change)
			w.deaf[0] = true
			w.run(210 * ms)
			if s.timers.tx != c.tx || s.timers.rx != c.rx {
				t.Errorf("in force before the Final: tx %v, rx %v; want %v, %v", s.timers.tx, s.timers.rx, c.tx, c.rx)
			}
			polls := 0
			for _, p := range w.sent[0] {
				if p.tx != c.saidTx || p.rx != c.saidRx {
					t.Errorf("said: tx %v, rx %v; want %v, %v", p.tx, p.rx, c.saidTx, c.saidRx)
				}
				if p.poll {
					polls++
				}
			}
			if polls != len(w.sent[0]) || polls < 2 {
				t.Errorf("%d of %d packets poll; all must, until the Final", polls, len(w.sent[0]))
			}
			w.deaf[0] = false
			w.run(150 * ms)
			if s.polling || s.timers.tx != c.saidTx || s.timers.rx != c.saidRx {
				t.Errorf("after the Final: polling %v, tx %v, rx %v", s.polling, s.timers.tx, s.timers.rx)
			}
			w.run(5 * time.Second)
			w.mustBe(t, "up/up")
			if s.downs+w.end[1].downs != 0 {
				t.Error("the change took the session down")
			}
		})
	}
}

func TestSecondChangeWaitsForTheFirstPoll(t *testing.T) {
	w := newTestWire().bringUp(t)
	s := w.end[0]
	w.configure(0, func(c *Config) { c.Transmit = 300 * ms })
	w.configure(0, func(c *Config) { c.Transmit = 500 * ms })
	final := func() {
		s.receive(w.now, w.now, &packet{state: Up, mult: 3, my: 2, your: 1, tx: 100 * ms, rx: 100 * ms, final: true}, nil)
	}
	final()
	if !s.polling || s.timers.tx != 100*ms {
		t.Errorf("the first Final, which may answer the first change: polling %v, tx %v", s.polling, s.timers.tx)
	}
	final()
	if s.polling || s.timers.tx != 500*ms {
		t.Errorf("the second Final: polling %v, tx %v", s.polling, s.timers.tx)
	}
	final()
	if s.polling || s.timers.tx != 500*ms {
		t.Error("a Final that nobody asked for did something")
	}
}

func TestFinalAnswersPollAtOnce(t *testing.T) {
	for _, state := range []State{Down, Init, Up} {
		s := newTestWire().end[0]
		s.state, s.polling = state, true
		before := s.timers.txAt
		now := s.since.Add(ms)
		hear := map[State]State{Down: Up, Init: Down, Up: Up}[state] // changes nothing
		o := s.receive(now, now, &packet{state: hear, mult: 3, my: 2, your: 1, tx: slow, rx: time.Microsecond, poll: true}, nil)
		if p := s.compose(now, &o); !o.send || !p.final || p.poll {
			t.Errorf("%v: a poll is answered with %+v", state, p)
		}
		if !s.timers.txAt.Equal(before) {
			t.Errorf("%v: an answer moved the pace", state)
		}
	}
}

// A shorter interval counts from the last packet: the peer does not wait longer for the next (RFC 5880 6.8.3).
func TestShorterIntervalHoldsAtOnce(t *testing.T) {
	w := newTestWire().bringUp(t)
	s := w.end[0]
	s.receive(w.now, w.now, &packet{state: Up, mult: 3, my: 2, your: 1, tx: 100 * ms, rx: 10 * time.Second}, nil)
	w.deaf = [2]bool{true, true}
	sentLast := s.timers.lastSent
	if s.timers.txAt.Sub(sentLast) < 7*time.Second {
		t.Fatalf("the next packet is %v after the last", s.timers.txAt.Sub(sentLast))
	}
	s.receive(w.now, w.now, &packet{state: Up, mult: 3, my: 2, your: 1, tx: 100 * ms, rx: 200 * ms}, nil)
	if gap := s.timers.txAt.Sub(sentLast); gap > 200*ms {
		t.Errorf("the next packet is %v after the last, want at most 200ms", gap)
	}
}

// Whatever the two ends are told, and whenever, a link that loses nothing takes no session down, and no packet comes later
// than what is in force.
func TestChangesNeverTakeASessionDown(t *testing.T) {
	const runs = 60
	for seed := range uint64(runs) {
		r := rand.New(rand.NewPCG(seed, 1))
		a, b := testConfig("b"), testConfig("a")
		if seed%2 == 0 {
			key := Key{ID: 7, Secret: "s3cret"}
			a.Key, b.Key = key, key
		}
		w := newWire(a, b, r.Float64).bringUp(t)
		any := func() time.Duration { return time.Duration(10+r.IntN(2000)) * ms }
		for range 100 {
			i := r.IntN(2)
			w.configure(i, func(c *Config) {
				switch r.IntN(3) {
				case 0:
					c.Transmit = any()
				case 1:
					c.Receive = any()
				default:
					c.Multiplier = uint8(1 + r.IntN(5))
				}
			})
			w.run(time.Duration(r.IntN(3000)) * ms)
			if w.end[0].downs+w.end[1].downs > 0 {
				t.Fatalf("seed %d: %+v %+v", seed, w.end[0].lastLoss, w.end[1].lastLoss)
			}
		}
		w.run(time.Minute)
		w.mustBe(t, "up/up")
		for i, s := range w.end {
			if s.polling || s.timers.txInterval() != w.end[1-i].timers.rxInterval() {
				t.Errorf("seed %d: end %d polls (%v), or sends every %v and is heard every %v", seed, i, s.polling, s.timers.txInterval(), w.end[1-i].timers.rxInterval())
			}
		}
	}
}
