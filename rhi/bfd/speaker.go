package bfd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// longestLeave bounds how long Run stays after its context has ended, to say AdminDown a second time.
const longestLeave = time.Second

// Options are what a Speaker needs from its process. All are optional.
type Options struct {
	Log      *slog.Logger          // changes of state; default none
	Registry prometheus.Registerer // default none
	Changed  func(Change)          // called for each change of a state, in order, from one goroutine of Run's

	// Prefer has the whole process go before others (niceness -10), as at full load a node that waits for a processor is silent.
	// It needs CAP_SYS_NICE, and is not undone. Default: the process is left as it is.
	Prefer bool
}

// Speaker keeps BFD sessions. Its methods may be called from anywhere, also from Changed.
type Speaker struct {
	prefer  bool
	log     *slog.Logger
	changed func(Change)

	mu       sync.Mutex
	running  bool
	wanted   []Config // the last set
	peers    map[path]*peer
	byDiscr  map[uint32]*peer
	byRemote map[netip.Addr][]*peer
	due      queue     // by when the clockwork must look at them
	open     queue     // by when they may send
	planned  time.Time // when the clockwork means to wake up
	alarm    *alarm    // wakes it up then; nil before Run and after
	sockets  map[kind]*socket
	strays   [dropReasons]uint64 // dropped, and from nobody that we know
	untold   []untold
	packet   [packetLen]byte // room for the one that is being sent

	news    chan struct{} // untold is not empty
	readers sync.WaitGroup
}

// peer is a session with what it has in the kernel.
type peer struct {
	*session
	out      *sender
	link     int       // number of the session's interface; 0: any, or it is not there
	looked   time.Time // when the number was last looked up
	gone     time.Time // when a removed session ends for good; zero: it was not removed
	due      mark      // when the clockwork is to look at it
	open     mark      // when it may send, if somebody is awake
	sent     uint64
	received uint64
	dropped  [dropReasons]uint64
	lastDrop drop
	untold   int
}

// New makes a speaker that does nothing before Run.
func New(o Options) *Speaker {
	s := &Speaker{
		prefer: o.Prefer, log: o.Log, changed: o.Changed,
		peers: map[path]*peer{}, byDiscr: map[uint32]*peer{}, byRemote: map[netip.Addr][]*peer{}, sockets: map[kind]*socket{},
		due:  queue{mark: func(p *peer) *mark { return &p.due }},
		open: queue{mark: func(p *peer) *mark { return &p.open }},
		news: make(chan struct{}, 1),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.changed == nil {
		s.changed = func(Change) {}
	}
	if o.Registry != nil {
		o.Registry.MustRegister(collector{s})
	}
	return s
}

// Run keeps the sessions until the context ends, and then takes leave of the peers, which takes at most a second. It gives
// an error if the sockets cannot be had.
func (s *Speaker) Run(ctx context.Context) error {
	if err := s.start(); err != nil {
		return fmt.Errorf("start BFD: %w", err)
	}
	if s.prefer {
		if err := prefer(); err != nil {
			s.log.Warn("at full load a peer may take this node for lost", "cause", err)
		}
	}
	var teller sync.WaitGroup
	stopped := make(chan struct{})
	teller.Go(func() { s.tell(stopped) })
	s.clockwork(ctx)
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.takeLeave())
	s.clockwork(leave)
	cancel()
	s.sayLast()
	s.closeSockets()
	close(stopped)
	teller.Wait()
	return nil
}

func (s *Speaker) start() (err error) {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return errors.New("the speaker runs already; run each only once at a time")
	}
	s.planned = time.Now()
	if s.alarm, err = newAlarm(); err == nil {
		err = s.apply(s.wanted)
	}
	s.running = err == nil
	s.mu.Unlock()
	if err != nil {
		s.closeSockets()
	}
	return err
}

// SetSessions makes these the sessions: it adds, removes, and changes those that stand without taking them down. The same set
// again does nothing. With an error, nothing was changed.
func (s *Speaker) SetSessions(configs []Config) error {
	set, err := check(configs)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		if err := s.apply(set); err != nil {
			return err
		}
	}
	s.wanted = set
	return nil
}

// apply turns the sessions into a set that was checked. What can fail comes first.
func (s *Speaker) apply(set []Config) error {
	now := time.Now()
	keep := map[path]bool{}
	var fresh []*peer
	for _, c := range set {
		old := s.peers[c.path()]
		if old != nil && old.gone.IsZero() && old.cfg.Peer == c.Peer {
			keep[c.path()] = true
			continue
		}
		p, err := s.newPeer(c, now)
		if err != nil {
			for _, p := range fresh {
				p.out.close()
			}
			return err
		}
		fresh = append(fresh, p)
	}
	for at, p := range s.peers {
		if !keep[at] && p.gone.IsZero() {
			s.retire(p, now)
		}
	}
	for _, c := range set {
		if keep[c.path()] {
			p := s.peers[c.path()]
			o := p.configure(now, c)
			s.conclude(p, now, &o)
			s.hurry(p, now)
		}
	}
	for _, p := range fresh {
		if old := s.peers[p.cfg.path()]; old != nil { // on its way out; the peer's name may be another
			s.forget(old)
		}
		s.add(p, now)
	}
	return nil
}

func (s *Speaker) newPeer(c Config, now time.Time) (*peer, error) {
	if s.sockets[c.kind()] == nil {
		sock, err := listen(c.kind())
		if err != nil {
			return nil, err
		}
		s.sockets[c.kind()] = sock
		s.readers.Go(func() { s.read(sock) })
	}
	out, err := openSender(&c, rand.Float64)
	if err != nil {
		return nil, fmt.Errorf("BFD peer %q: %w", c.Peer, err)
	}
	p := &peer{out: out, looked: now}
	if c.Interface != "" {
		p.link = linkNumber(c.Interface)
	}
	out.aim(&c, p.link)
	p.session = newSession(c, 0, rand.Uint32(), rand.Float64, now)
	return p, nil
}

// add begins a session, under a discriminator that nobody else has and nobody can guess.
func (s *Speaker) add(p *peer, now time.Time) {
	for p.discr == 0 || s.byDiscr[p.discr] != nil {
		p.discr = rand.Uint32()
	}
	s.byDiscr[p.discr], s.peers[p.cfg.path()] = p, p
	s.byRemote[p.cfg.Remote] = append(s.byRemote[p.cfg.Remote], p)
	p.due.at, p.open.at = now, now
	s.due.add(p)
	s.open.add(p)
	s.hurry(p, now)
}
