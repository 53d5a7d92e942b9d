package zone

import "github.com/miekg/dns"

// Set is some zones of one server. It never changes.
type Set struct {
	zones map[string]*Zone // by the key of the origin
	list  []*Zone
}

// NewSet makes a set. Of two zones with one origin the latter counts.
func NewSet(zones ...*Zone) *Set {
	s := &Set{zones: make(map[string]*Zone, len(zones))}
	for _, z := range zones {
		s.zones[string(z.data.origin)] = z
	}
	for _, z := range zones {
		if s.zones[string(z.data.origin)] == z {
			s.list = append(s.list, z)
		}
	}
	return s
}

// Zones gives the zones in the order that they were given.
func (s *Set) Zones() []*Zone { return s.list }

// Find gives the zone that answers a query: the one with the longest name at or above qname, nil if there is none. A DS
// set belongs to the zone above its name (RFC 4035 section 3.1.4.1), so the zone of that name answers for it only if that
// above is not in the set.
func (s *Set) Find(qname string, qtype uint16) *Zone {
	var n name
	if !n.parse(qname) {
		return nil
	}
	var own *Zone
	for labels := n.labels; labels >= 0; labels-- {
		z := s.zones[string(n.key(labels))]
		switch {
		case z == nil:
		case qtype == dns.TypeDS && labels == n.labels:
			own = z
		default:
			return z
		}
	}
	return own
}
