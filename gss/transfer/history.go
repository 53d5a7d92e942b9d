package transfer

import (
	"fmt"
	"sync"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
)

const (
	maxVersions = 32      // of a zone that can be caught up with by increments
	maxChanges  = 100_000 // records in them; a record takes some 200 bytes
)

// Delta is what makes a version of a zone of the one before (RFC 1995 section 4).
type Delta struct {
	From, To *dns.SOA
	Del, Add []dns.RR // without SOA records; nobody changes them
}

// size is how many records it takes to send.
func (d *Delta) size() int { return 2 + len(d.Del) + len(d.Add) }

// History knows how versions of zones differ from those before.
type History struct {
	mu    sync.Mutex
	zones map[string]*past
}

// past is the history of one zone.
type past struct {
	latest  *zone.Zone
	dynamic string  // the names that rules answer for, in one string
	edited  bool    // the latest is not what others with its serial have
	deltas  []Delta // the oldest first; each From is the To before
	size    int     // of the deltas
}

// NewHistory knows nothing yet.
func NewHistory() *History { return &History{zones: map[string]*past{}} }

// Take takes note of a version of a zone. dynamic is equal for two versions if the same names and types are dynamic in both.
// ErrSameSerial: the records are others than before and the serial is not, so that secondaries will not notice.
func (h *History) Take(z *zone.Zone, dynamic string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.zones[z.Origin()]
	if p == nil {
		h.zones[z.Origin()] = &past{latest: z, dynamic: dynamic}
		return nil
	}
	was, sameNames := p.latest, p.dynamic == dynamic
	if was == z && sameNames {
		return nil
	}
	del, add := zone.Diff(was, z)
	p.latest, p.dynamic = z, dynamic
	if z.Serial() == was.Serial() {
		edited := len(del)+len(add) > 0
		if edited || !sameNames {
			p.forget()
		}
		p.edited = p.edited || edited
		if edited {
			return fmt.Errorf("serial %d of %s: %w", z.Serial(), bare(z.Origin()), ErrSameSerial)
		}
		return nil // rules for other names change nothing for who has a transfer
	}
	if !Newer(z.Serial(), was.Serial()) || p.edited || !sameNames {
		p.forget()
	} else {
		p.keep(Delta{From: was.SOA(), To: z.SOA(), Del: del, Add: add})
	}
	p.edited = false
	return nil
}

// keep keeps a delta, and of those before as many as the bounds let it.
func (p *past) keep(d Delta) {
	p.deltas = append(p.deltas, d)
	p.size += d.size()
	for len(p.deltas) > maxVersions || p.size > maxChanges {
		p.size -= p.deltas[0].size()
		p.deltas = p.deltas[1:]
	}
}

func (p *past) forget() { p.deltas, p.size = nil, 0 }

// Keep forgets the zones that are not among those of the origins.
func (h *History) Keep(origins map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for origin := range h.zones {
		if !origins[origin] {
			delete(h.zones, origin)
		}
	}
}

// since gives the deltas that lead from a serial to another; none if they are not known.
func (h *History) since(origin string, from, to uint32) []Delta {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.zones[origin]
	if p == nil {
		return nil
	}
	first := -1
	for i := range p.deltas {
		if p.deltas[i].From.Serial == from {
			first = i // the latest, should the serial have gone round
		}
	}
	if first < 0 {
		return nil
	}
	for i := first; i < len(p.deltas); i++ {
		if p.deltas[i].To.Serial == to {
			return p.deltas[first : i+1 : i+1]
		}
	}
	return nil
}
