package screen

import (
	"net/netip"
	"sync"
	"time"
)

// maxSources bounds what is remembered. When it is full, sources without a session are forgotten at random: who has that
// many addresses is not held up by limits on one.
const maxSources = 100_000

// sources knows what each source has spent of its share.
type sources struct {
	cfg Config

	mu   sync.Mutex
	seen map[netip.Prefix]*source
}

type source struct {
	open     int
	spent    float64   // sessions begun lately; a minute takes PerMinute of them off
	at       time.Time // when spent was right
	knownTil time.Time // no stranger until then
}

func newSources(cfg Config) *sources {
	return &sources{cfg: cfg, seen: map[netip.Prefix]*source{}}
}

// of gives the source that an address belongs to.
func of(client netip.Addr) netip.Prefix {
	bits := 64
	if client.Is4() {
		bits = 32
	}
	p, err := client.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all such share one
	}
	return p
}

// enter counts a session in. reason is Sessions or Rate when the source may not have it, else empty. release counts it out
// in any case.
func (s *sources) enter(client netip.Addr) (release func(), stranger bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	src := s.find(of(client), now)
	src.spent = max(0, src.spent-now.Sub(src.at).Minutes()*float64(s.cfg.PerMinute))
	src.at = now
	switch {
	case src.open >= s.cfg.MaxSessions:
		reason = Sessions
	case src.spent+1 > float64(s.cfg.PerMinute):
		reason = Rate
	default:
		src.spent++
	}
	src.open++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		src.open--
	}, now.After(src.knownTil), reason
}

// passed makes a source no stranger.
func (s *sources) passed(client netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if src, ok := s.seen[of(client)]; ok {
		src.knownTil = time.Now().Add(s.cfg.Remember)
	}
}

func (s *sources) find(p netip.Prefix, now time.Time) *source {
	if src, ok := s.seen[p]; ok {
		return src
	}
	if len(s.seen) >= maxSources {
		s.makeRoom(now)
	}
	src := &source{at: now}
	s.seen[p] = src
	return src
}

// makeRoom forgets some sources without a session, first of all those of which there is nothing to know.
func (s *sources) makeRoom(now time.Time) {
	for p, src := range s.seen {
		if src.open == 0 && now.After(src.knownTil) && now.Sub(src.at) > time.Minute {
			delete(s.seen, p)
		}
	}
	for p, src := range s.seen {
		if len(s.seen) < maxSources*9/10 {
			return
		}
		if src.open == 0 {
			delete(s.seen, p)
		}
	}
}
