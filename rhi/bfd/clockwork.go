package bfd

import (
	"container/heap"
	"context"
	"slices"
	"time"
)

// idle is how long the clockwork sleeps when nothing is due.
const idle = time.Hour

// queue has the sessions by the moment at which the clockwork must look at them. A moment may be too early: what a packet
// puts off is only found when it comes.
type queue []*peer

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].wake.Before(q[j].wake) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].slot, q[j].slot = i, j }

// Push and Pop are for container/heap.
func (q *queue) Push(p any) { *q = append(*q, p.(*peer)); (*q)[len(*q)-1].slot = len(*q) - 1 }

// Pop takes the last element.
func (q *queue) Pop() any {
	p := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return p
}

func (q *queue) add(p *peer)    { heap.Push(q, p) }
func (q *queue) remove(p *peer) { heap.Remove(q, p.slot) }

// set moves a session to another moment.
func (q *queue) set(p *peer, wake time.Time) {
	p.wake = wake
	heap.Fix(q, p.slot)
}

// clockwork does what is due, for all sessions, until the context ends.
func (s *Speaker) clockwork(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.kick:
		}
		s.mu.Lock()
		s.work(time.Now())
		wait := time.Until(s.planned)
		s.mu.Unlock()
		timer.Reset(wait)
	}
}

// work does what is due. A session is not given up before what waits in the sockets has been read, and a clockwork that ran
// late grants its peers more time.
func (s *Speaker) work(now time.Time) {
	late, drained := now.Sub(s.planned), false
	if late > minInterval {
		s.drain()
		drained = true
		for _, p := range s.queue {
			p.stall(now, late)
		}
	}
	for len(s.queue) > 0 && !s.queue[0].wake.After(now) {
		p := s.queue[0]
		if !p.gone.IsZero() && !now.Before(p.gone) {
			s.forget(p)
			continue
		}
		if p.silent(now) && !drained {
			s.drain()
			drained = true
			continue
		}
		o := p.tick(now)
		s.do(p, now, &o)
		s.queue.set(p, p.due(now))
	}
	s.planned = now.Add(idle)
	if len(s.queue) > 0 {
		s.planned = s.queue[0].wake
	}
}

// due is when the clockwork must look at a session next.
func (p *peer) due(now time.Time) time.Time {
	at := earliest(p.next(), p.gone)
	if at.IsZero() {
		return now.Add(idle)
	}
	return at
}

// conclude does what a step of a session asks for, outside of the clockwork.
func (s *Speaker) conclude(p *peer, now time.Time, o *outcome) {
	s.do(p, now, o)
	if due := p.due(now); due.Before(p.wake) {
		s.queue.set(p, due)
		s.hurry(due)
	}
}

// hurry wakes the clockwork up if something is due before it means to.
func (s *Speaker) hurry(due time.Time) {
	if due.Before(s.planned) {
		s.planned = due
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
}

func (s *Speaker) do(p *peer, now time.Time, o *outcome) {
	if o.changed() {
		s.note(p, o)
	}
	if !o.send {
		return
	}
	if p.cfg.Interface != "" && (p.link == 0 || p.out.err != nil) && now.Sub(p.looked) >= slow { // links come and go
		p.looked, p.link = now, linkNumber(p.cfg.Interface)
		p.out.aim(&p.cfg, p.link)
	}
	pkt := p.compose(now, o)
	b := pkt.encode(&s.packet)
	if pkt.auth {
		p.auth.sign(b, &p.cfg.Key)
	}
	p.out.send(b)
	p.sent++
}

// retire has a session say AdminDown for as long as three packets take, by which the peer knows that it is no fault.
func (s *Speaker) retire(p *peer, now time.Time) {
	cfg := p.cfg
	cfg.AdminDown = true
	o := p.configure(now, cfg)
	o.send = true
	p.gone = now.Add(2*slow + slow/2)
	s.conclude(p, now, &o)
}

// forget ends a session for good.
func (s *Speaker) forget(p *peer) {
	s.queue.remove(p)
	p.out.close()
	delete(s.byDiscr, p.discr)
	delete(s.peers, p.cfg.path())
	others := slices.DeleteFunc(s.byRemote[p.cfg.Remote], func(q *peer) bool { return q == p })
	if s.byRemote[p.cfg.Remote] = others; len(others) == 0 {
		delete(s.byRemote, p.cfg.Remote)
	}
}

// takeLeave says AdminDown to all peers, and gives the time after which Run may say it again and end.
func (s *Speaker) takeLeave() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false // SetSessions finds nothing to change from here on
	now, longest := time.Now(), time.Duration(0)
	for _, p := range s.peers {
		longest = max(longest, time.Duration(p.cfg.Multiplier)*p.timers.txInterval())
		s.retire(p, now)
	}
	return min(longest, longestLeave)
}

// sayLast says AdminDown once more and ends all sessions.
func (s *Speaker) sayLast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, p := range s.peers {
		s.do(p, now, &outcome{send: true})
		s.forget(p)
	}
}

// closeSockets ends the readers and waits for them. A socket is closed once nobody uses it, and its reader uses it until it
// has had the lock; so the lock is not held.
func (s *Speaker) closeSockets() {
	s.mu.Lock()
	sockets := s.sockets
	s.sockets = map[kind]*socket{}
	s.mu.Unlock()
	for _, sock := range sockets {
		sock.file.Close()
	}
	s.readers.Wait()
}
