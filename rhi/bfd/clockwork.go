package bfd

import (
	"container/heap"
	"context"
	"slices"
	"time"
)

// idle is how long the clockwork sleeps when nothing is due.
const idle = time.Hour

// mark is a moment of a session, and its place in the queue of those.
type mark struct {
	at   time.Time
	slot int
}

// queue has the sessions in the order of one of their moments.
type queue struct {
	peers []*peer
	mark  func(*peer) *mark
}

func (q *queue) Len() int { return len(q.peers) }

func (q *queue) Less(i, j int) bool { return q.mark(q.peers[i]).at.Before(q.mark(q.peers[j]).at) }

func (q *queue) Swap(i, j int) {
	q.peers[i], q.peers[j] = q.peers[j], q.peers[i]
	q.mark(q.peers[i]).slot, q.mark(q.peers[j]).slot = i, j
}

// Push and Pop are for container/heap.
func (q *queue) Push(p any) {
	q.mark(p.(*peer)).slot = len(q.peers)
	q.peers = append(q.peers, p.(*peer))
}

// Pop takes the last element.
func (q *queue) Pop() any {
	p := q.peers[len(q.peers)-1]
	q.peers = q.peers[:len(q.peers)-1]
	return p
}

func (q *queue) add(p *peer)    { heap.Push(q, p) }
func (q *queue) remove(p *peer) { heap.Remove(q, q.mark(p).slot) }

// reached gives a session whose moment has come; nil: there is none.
func (q *queue) reached(now time.Time) *peer {
	if len(q.peers) == 0 || q.mark(q.peers[0]).at.After(now) {
		return nil
	}
	return q.peers[0]
}

// set moves a session to another moment.
func (q *queue) set(p *peer, at time.Time) {
	m := q.mark(p)
	m.at = at
	heap.Fix(q, m.slot)
}

// clockwork does what is due, for all sessions, until the context ends.
func (s *Speaker) clockwork(ctx context.Context) {
	ring := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.work(time.Now())
	}
	ring()
	s.alarm.each(ctx, ring)
}

// work does what is due, for the clockwork and for each reader that has taken packets: who is awake does it all, and what may
// be sent already is sent too, as each wake-up of a process that sleeps costs more than that. A session is not given up
// before what waits in the sockets has been read, and a clockwork that ran late grants its peers more time.
func (s *Speaker) work(now time.Time) {
	late, drained := now.Sub(s.planned), false
	if late > minInterval {
		s.drain()
		drained = true
		for _, p := range s.due.peers {
			p.stall(now, late)
		}
	}
	for p := s.due.reached(now); p != nil; p = s.due.reached(now) {
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
		s.conclude(p, now, &o)
	}
	for p := s.open.reached(now); p != nil; p = s.open.reached(now) {
		s.conclude(p, now, &outcome{send: true})
	}
	next := now.Add(idle)
	if len(s.due.peers) > 0 {
		next = s.due.peers[0].due.at
	}
	if !next.Equal(s.planned) {
		s.planned = next
		s.alarm.set(next)
	}
}

// conclude does what a step of a session asks for.
func (s *Speaker) conclude(p *peer, now time.Time, o *outcome) {
	s.do(p, now, o)
	s.plan(p, now)
}

// plan puts down when something is to be done for a session next, and when something may be.
func (s *Speaker) plan(p *peer, now time.Time) {
	never := now.Add(idle)
	due, open := earliest(p.next(), p.gone), p.opens()
	if due.IsZero() {
		due = never
	}
	if open.IsZero() {
		open = never
	}
	s.due.set(p, due)
	s.open.set(p, open)
}

// hurry has the clockwork look at a session in time that was changed by others than the clockwork and the readers. What is
// over already counts from now: the clockwork is not late for what it could not know.
func (s *Speaker) hurry(p *peer, now time.Time) {
	due := p.due.at
	if due.Before(now) {
		due = now
	}
	if due.Before(s.planned) {
		s.planned = due
		s.alarm.set(due)
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
	s.hurry(p, now)
}

// forget ends a session for good.
func (s *Speaker) forget(p *peer) {
	s.due.remove(p)
	s.open.remove(p)
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

// closeSockets ends the readers and waits for them, and closes the alarm. A socket is closed once nobody uses it, and its reader uses it until it
// has had the lock; so the lock is not held.
func (s *Speaker) closeSockets() {
	s.mu.Lock()
	sockets := s.sockets
	s.sockets = map[kind]*socket{}
	if s.alarm != nil {
		s.alarm.file.Close()
		s.alarm = nil
	}
	s.mu.Unlock()
	for _, sock := range sockets {
		sock.file.Close()
	}
	s.readers.Wait()
}
