package bfd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// bench is a speaker without sockets on a clock of its own, whose packets go nowhere.
type bench struct {
	*Speaker
	now   time.Time
	peers []*peer
	wakes int
}

// newBench has sessions of these intervals, all up, with peers that are not heard of for an hour.
func newBench(intervals ...time.Duration) *bench {
	b := &bench{Speaker: New(Options{}), now: time.Now()}
	b.planned = b.now
	for i, interval := range intervals {
		c := Config{Peer: fmt.Sprint(i), Remote: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), Transmit: interval, Receive: 10 * time.Second}
		p := &peer{out: &sender{fd: -1}, session: newSession(c.normal(), 0, 0, rand.Float64, b.now)}
		p.out.aim(&p.cfg, 0)
		b.add(p, b.now)
		b.bringUp(p)
		b.peers = append(b.peers, p)
	}
	return b
}

// bringUp is what two packets of a peer do.
func (b *bench) bringUp(p *peer) {
	for _, state := range []State{Down, Init} {
		b.hear(p, &packet{state: state, mult: 200, my: 9, your: p.discr, tx: 20 * time.Second, rx: ms, final: true})
	}
	b.hear(p, &packet{state: Up, mult: 200, my: 9, your: p.discr, tx: 20 * time.Second, rx: ms, final: true}) // agrees to the intervals
}

// hear is a packet that wakes a reader up.
func (b *bench) hear(p *peer, pkt *packet) {
	o := p.receive(b.now, b.now, pkt, nil)
	b.conclude(p, b.now, &o)
	b.work(b.now)
	b.wakes++
}

// run lets the alarm go off as planned.
func (b *bench) run(d time.Duration) {
	for end := b.now.Add(d); !b.planned.After(end); b.wakes++ {
		b.now = b.planned
		b.work(b.now)
	}
}

func (b *bench) sent() (n uint64) {
	for _, p := range b.peers {
		n += p.sent
	}
	return n
}

func TestSessionsShareWakeUps(t *testing.T) {
	b := newBench(100*ms, 100*ms, 100*ms, 100*ms)
	for _, p := range b.peers {
		if p.state != Up || p.timers.txInterval() != 100*ms {
			t.Fatalf("%v, every %v", p.state, p.timers.txInterval())
		}
	}
	b.run(time.Second)
	wakes, sent := b.wakes, b.sent()
	b.run(time.Minute)
	if wakes, sent = b.wakes-wakes, b.sent()-sent; sent < 4*600 || float64(wakes) > 0.4*float64(sent) {
		t.Errorf("%d packets at %d wake-ups in a minute", sent, wakes)
	}
}

// A packet that may go already goes with one that arrives, and the alarm is put off: it never goes off for nothing.
func TestSendingSharesTheWakeUpsOfReading(t *testing.T) {
	b := newBench(100 * ms)
	p := b.peers[0]
	b.run(time.Second)
	before := p.sent
	heard := 0
	for range 1000 {
		last := p.timers.lastSent
		b.now = last.Add(88 * ms)
		if !b.now.Before(b.planned) { // it would have gone by itself
			b.now = b.planned
			b.work(b.now)
			continue
		}
		b.hear(p, &packet{state: Up, mult: 200, my: 9, your: p.discr, tx: 20 * time.Second, rx: ms})
		heard++
		if !p.timers.lastSent.Equal(b.now) {
			t.Fatalf("nothing sent at %v after the last packet, though a packet arrived", b.now.Sub(last))
		}
		if until := b.planned.Sub(b.now); until < 87*ms {
			t.Fatalf("the alarm goes off in %v, at which nothing is due", until)
		}
	}
	if p.sent != before+1000 || heard < 500 {
		t.Errorf("%d packets, %d of them as others arrived", p.sent-before, heard)
	}
}

// Whatever wakes the clockwork up, and however often, each interval is 75 to 100 % of what was agreed, at most 90 % for a
// multiplier of 1, and is another one each time.
func TestPaceUnderManyWakeUps(t *testing.T) {
	for _, mult := range []uint8{3, 1} {
		for _, gap := range []time.Duration{ms / 2, 7 * ms, 40 * ms, time.Hour} {
			t.Run(fmt.Sprintf("multiplier %d, a packet each %v", mult, gap), func(t *testing.T) {
				b := newBench(100*ms, 250*ms)
				for _, p := range b.peers {
					p.cfg.Multiplier = mult
				}
				b.run(time.Second)
				least, most := make([]float64, 2), make([]float64, 2)
				next := b.now.Add(gap)
				for end := b.now.Add(time.Minute); b.now.Before(end); {
					var last []time.Time
					for _, p := range b.peers {
						last = append(last, p.timers.lastSent)
					}
					if next.Before(b.planned) {
						b.now, next = next, next.Add(gap)
						p := b.peers[rand.IntN(2)]
						b.hear(p, &packet{state: Up, mult: 200, my: 9, your: p.discr, tx: 20 * time.Second, rx: ms})
					} else {
						b.now = b.planned
						b.work(b.now)
					}
					for i, p := range b.peers {
						if p.timers.lastSent.Equal(last[i]) {
							continue
						}
						part := float64(p.timers.lastSent.Sub(last[i])) / float64(p.timers.txInterval())
						if most[i] == 0 || part < least[i] {
							least[i] = part
						}
						most[i] = max(most[i], part)
					}
				}
				limit := map[uint8]float64{1: 0.9, 3: 1}[mult]
				for i := range least {
					if least[i] < 0.75 || most[i] > limit || most[i]-least[i] < 0.05 {
						t.Errorf("session %d: intervals of %.3f to %.3f of what was agreed, want 0.75 to %v, and each another one", i, least[i], most[i], limit)
					}
				}
			})
		}
	}
}

// A shorter interval may have been over before it was ordered. That is no stall.
func TestShorterIntervalIsNoStall(t *testing.T) {
	b := newBench(10*time.Second, 100*ms)
	b.run(time.Second)
	p := b.peers[0]
	b.now = p.timers.lastSent.Add(5 * time.Second)
	b.work(b.now) // as if the other had woken it up
	for _, q := range b.peers {
		q.stalls = 0
	}
	b.run(50 * ms)
	cfg := p.cfg
	cfg.Transmit = 100 * ms
	b.peers[1].timers.remoteTx, b.peers[1].timers.rx = 20*ms, 20*ms // whom a stall of seconds would count for
	o := p.configure(b.now, cfg)
	b.conclude(p, b.now, &o)
	b.hurry(p, b.now)
	if !b.planned.Equal(b.now) {
		t.Fatalf("the packet goes %v from now, want at once", b.planned.Sub(b.now))
	}
	before := p.sent
	b.work(b.now)
	if p.sent != before+1 || b.peers[0].stalls+b.peers[1].stalls != 0 {
		t.Errorf("%d packets sent, %d and %d stalls", p.sent-before, b.peers[0].stalls, b.peers[1].stalls)
	}
}
