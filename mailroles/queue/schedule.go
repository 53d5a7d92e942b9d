package queue

import (
	"container/heap"
	"time"
)

// schedule says which leg is next. The queue's lock is held whenever it is used.
type schedule struct {
	limit, perDestination int
	table                 table // legs by the time at which they are due
	destinations          map[string]*destination
	ready                 []*destination // that have legs to start and room to, in turn
	active                int
}

// destination is where legs go. It exists while legs are due or under way, or while it is down.
type destination struct {
	name   string
	due    []*leg // oldest first
	active int
	listed bool      // in ready
	down   time.Time // until then nobody tries it, for
	why    result
}

func newSchedule(limit, perDestination int) schedule {
	return schedule{limit: limit, perDestination: perDestination, destinations: map[string]*destination{}}
}

// next gives a leg that is to be tried now, or when to ask again; a zero time is never.
func (s *schedule) next(now time.Time) (*leg, time.Time) {
	for len(s.table) > 0 && !s.table[0].Next.After(now) {
		l := heap.Pop(&s.table).(*leg)
		d := s.to(l.Destination)
		l.busy = true
		d.due = append(d.due, l)
		s.list(d)
	}
	if len(s.ready) > 0 && s.active < s.limit {
		d := s.ready[0]
		s.ready = s.ready[1:]
		d.listed = false
		l := d.due[0]
		d.due = d.due[1:]
		d.active++
		s.active++
		s.list(d)
		return l, time.Time{}
	}
	if len(s.table) > 0 {
		return nil, s.table[0].Next
	}
	return nil, time.Time{}
}

// to gives a destination.
func (s *schedule) to(name string) *destination {
	d := s.destinations[name]
	if d == nil {
		d = &destination{name: name}
		s.destinations[name] = d
	}
	return d
}

// list puts a destination at the end of those that may start a leg.
func (s *schedule) list(d *destination) {
	if !d.listed && len(d.due) > 0 && d.active < s.perDestination {
		d.listed = true
		s.ready = append(s.ready, d)
	}
}

// ended says that a leg that next gave is no longer under way.
func (s *schedule) ended(l *leg, now time.Time) {
	d := s.to(l.Destination)
	d.active--
	s.active--
	s.list(d)
	if d.active == 0 && len(d.due) == 0 && !d.down.After(now) {
		delete(s.destinations, d.name)
	}
}

// forgetDown has all destinations be tried again.
func (s *schedule) forgetDown() {
	for name, d := range s.destinations {
		d.down = time.Time{}
		if d.active == 0 && len(d.due) == 0 {
			delete(s.destinations, name)
		}
	}
}

// table is a heap of legs by time.
type table []*leg

func (t table) Len() int           { return len(t) }
func (t table) Less(i, j int) bool { return t[i].Next.Before(t[j].Next) }

func (t table) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

// Push implements heap.Interface.
func (t *table) Push(x any) {
	l := x.(*leg)
	l.index = len(*t)
	*t = append(*t, l)
}

// Pop implements heap.Interface.
func (t *table) Pop() any {
	last := len(*t) - 1
	l := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	l.index = -1
	return l
}
