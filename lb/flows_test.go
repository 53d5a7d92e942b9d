package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anycastle/bpf"
)

// simulation is a farm with flows on it and a data path in miniature: some slots, the store of tracked flows, and reals
// that know their own sockets.
type simulation struct {
	*farmTest
	rng   *rand.Rand
	logs  *logTable
	slots map[int]*simSlot
	flows []*simFlow
	log   []string

	moving int // reals in transition
}

type simSlot struct{ primary, secondary netip.Addr }

type simFlow struct {
	slot   int
	real   netip.Addr
	stored bool // its SYN was stored: the slot was in transition
	begun  time.Time

	left     time.Time // when the slot got another primary than its real; zero: it has not since the farm was at rest
	promised time.Time // how long it keeps its real after that
	crossed  bool      // two transitions of the farm have overlapped since it began
	excused  bool      // its real has failed or was suspended
}

func (s *simulation) note(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf("%v: ", s.now.Sub(epoch))+fmt.Sprintf(format, args...))
}

// look computes the states and what they make of the slots.
func (s *simulation) look() {
	s.step()
	var of []candidate
	index := map[uint16]netip.Addr{}
	for addr, rec := range s.state {
		i := uint16(len(of) + 1)
		of = append(of, candidate{addr, rec.primary(), rec.Held, i})
		index[i] = addr
	}
	b := tableBuilder{logs: s.logs}
	primary := contenders(of, func(c candidate) uint32 { return c.primary })
	secondary := contenders(of, func(c candidate) uint32 { return c.secondary })
	if len(secondary) == 0 {
		secondary = primary
	}
	for n, slot := range s.slots {
		slot.primary, slot.secondary = index[b.winner(primary, n)], index[b.winner(secondary, n)]
	}
	s.moving = 0
	for _, rec := range s.state {
		if rec.moving(s.now) {
			s.moving++
		}
	}
	for _, f := range s.flows {
		slot := s.slots[f.slot]
		switch {
		case slot.primary != f.real && f.left.IsZero():
			f.left, f.promised = s.now, s.promise()
		case slot.primary == f.real && s.moving == 0 && !f.left.IsZero():
			f.excused = f.excused || s.mayBreak(f) // it comes back too late
			f.left = time.Time{}
		}
		f.crossed = f.crossed || s.moving > 1
		if st := s.state[f.real].State; st != StateActive && st != StateJoining && st != StateDraining {
			f.excused = true
		}
	}
	if now := strings.Join(s.lines(), ", "); len(s.log) == 0 || !strings.HasSuffix(s.log[len(s.log)-1], now) {
		s.note("%s", now)
	}
}

func (s *simulation) inTransition(slot *simSlot) bool {
	return slot.primary != slot.secondary || s.state.follows(s.now)
}

// promise is until when a flow keeps its real whose slot gets another primary now: until the first transition ends.
func (s *simulation) promise() time.Time {
	end := s.now.Add(s.rules.time)
	for _, rec := range s.state {
		for _, t := range []time.Time{rec.Until, rec.HeldUntil} {
			if pending(t, s.now) && t.Before(end) {
				end = t
			}
		}
	}
	return end
}

// open sends the SYN of a new flow.
func (s *simulation) open(n int) {
	slot := s.slots[n]
	if !slot.primary.IsValid() {
		return
	}
	s.flows = append(s.flows, &simFlow{slot: n, real: slot.primary, begun: s.now, crossed: s.moving > 1,
		stored: !s.rules.secondChance && s.inTransition(slot)})
}

// goesTo gives the real that the next segment of a flow gets to.
func (s *simulation) goesTo(f *simFlow) netip.Addr {
	slot := s.slots[f.slot]
	switch {
	case !s.inTransition(slot):
		return slot.primary
	case s.rules.secondChance && f.real == slot.primary, !s.rules.secondChance && f.stored:
		return f.real
	case slot.secondary.IsValid():
		return slot.secondary
	}
	return slot.primary
}

// mayBreak says whether nothing was promised to the flow any more.
func (s *simulation) mayBreak(f *simFlow) bool {
	over := !f.left.IsZero() && !s.now.Before(f.promised)
	crossed := s.rules.secondChance && f.crossed // a packet carries two reals, and may need three
	return f.excused || over || crossed
}

// check sends a segment of every flow, and drops those that are broken as they may.
func (s *simulation) check() {
	kept := s.flows[:0]
	for _, f := range s.flows {
		switch to := s.goesTo(f); {
		case to == f.real:
			kept = append(kept, f)
		case !s.mayBreak(f):
			slot := s.slots[f.slot]
			s.t.Fatalf("flow %+v of slot %d {%v %v} goes to %v after %v\n%s", *f, f.slot, slot.primary, slot.secondary, to, s.now.Sub(epoch),
				strings.Join(s.log, "\n"))
		}
	}
	s.flows = kept
}

// happen makes one thing happen.
func (s *simulation) happen() {
	name := string(rune('a' + s.rng.IntN(5)))
	is, there := s.is[realAddr(name)]
	switch s.rng.IntN(10) {
	case 0:
		if !there {
			s.add(name)
			s.note("add %s", name)
		} else if len(s.is) > 2 {
			s.note("remove %s", name)
			s.remove(name)
		}
	case 1, 2:
		if there && is.fails == "" {
			s.note("fail %s", name)
			s.fail(name)
		} else if there {
			s.note("pass %s", name)
			s.pass(name)
		}
	case 3, 4:
		if there && !is.gone {
			d := time.Duration(1+s.rng.IntN(90)) * time.Minute
			s.note("drain %s for %v", name, d)
			s.drain(name, d)
		}
	case 5, 6:
		if there {
			s.note("activate %s", name)
			s.activate(name)
		}
	case 7:
		if there && !is.gone {
			s.note("suspend %s", name)
			s.suspend(name)
		}
	default:
		if there {
			p := []int{20, 50, 100, 200}[s.rng.IntN(4)]
			s.note("weigh %s %d %%", name, p)
			s.percent(name, p)
		}
	}
	s.look()
	s.check()
	for addr, is := range s.is {
		if _, has := s.state[addr]; is.gone && !has {
			delete(s.is, addr)
		}
	}
}

// pass lets time pass, with a look at each deadline on the way.
func (s *simulation) pause(d time.Duration) {
	end := s.now.Add(d)
	for {
		next := s.state.deadline(s.now)
		if next.IsZero() || next.After(end) {
			break
		}
		s.now = next
		s.look()
		s.check()
	}
	s.now = end
	s.look()
	s.check()
}

// TestNoFlowIsLost takes farms through random events. A flow keeps its real until that fails or is suspended, or until it has
// had the transition time since its slot got another primary, or what was left of a transition that began before. With second chances that holds while one real at a time is
// in transition.
func TestNoFlowIsLost(t *testing.T) {
	eachMethod(t, func(t *testing.T, method string) {
		logs := newLogTable()
		for seed := range uint64(150) {
			s := &simulation{farmTest: newFarmTest(t, method, "a", "b", "c"), rng: rand.New(rand.NewPCG(seed, 1)), logs: logs,
				slots: map[int]*simSlot{}}
			for range 40 {
				s.slots[s.rng.IntN(bpf.Slots)] = &simSlot{}
			}
			s.look()
			for range 40 {
				for n := range s.slots {
					if s.rng.IntN(3) == 0 {
						s.open(n)
					}
				}
				s.happen()
				if s.rng.IntN(3) > 0 {
					s.pause(time.Duration(s.rng.IntN(40)) * time.Minute)
				}
			}
		}
	})
}
